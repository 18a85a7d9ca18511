// Normals from a counter: element i of stream `key` is a function of (key, i) alone, the same on every machine.
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"); the four words of
// block i / 4 make two Box-Muller pairs. Logarithm, sine and cosine are polynomials (Cephes' single-precision ones)
// after an exact integer range reduction: they vectorise, and CPU and GPU give the same bits.
#pragma once

#include "common.h"

namespace rtil {

RTIL_HD constexpr void philox4x32(uint32_t k0, uint32_t k1, uint32_t (&c)[4]) {
  RTIL_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c[0];
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// ln((w + 0.5) 2^-32), to float precision relative to the result also where it goes to zero.
RTIL_HD float log_uniform(uint32_t w) {
  const uint32_t sqrt_half = 0x3f3504f3u;
  const uint32_t shifted = bits_as<uint32_t>(static_cast<float>(w) + 0.5f) - sqrt_half;
  const int exponent = (static_cast<int32_t>(shifted) >> 23) - 32;
  const float mantissa = bits_as<float>((shifted & 0x7fffffu) + sqrt_half);  // in [sqrt(1/2), sqrt(2))
  const float below_one = (static_cast<float>(~w) + 0.5f) * -0x1p-32f;
  const float f = exponent == 0 ? below_one : mantissa - 1.0f;
  const float e = static_cast<float>(exponent);
  const float z = f * f;
  float y = madd(7.0376836292e-2f, f, -1.1514610310e-1f);
  y = madd(y, f, 1.1676998740e-1f);
  y = madd(y, f, -1.2420140846e-1f);
  y = madd(y, f, 1.4249322787e-1f);
  y = madd(y, f, -1.6668057665e-1f);
  y = madd(y, f, 2.0000714765e-1f);
  y = madd(y, f, -2.4999993993e-1f);
  y = madd(y, f, 3.3333331174e-1f);
  y = y * f * z;
  y = madd(e, -2.12194440e-4f, y);
  y = madd(-0.5f, z, y);
  return madd(e, 0.693359375f, f + y);
}

// Two normals from two words.
RTIL_HD void box_muller(uint32_t w0, uint32_t w1, float& first, float& second) {
  const float r = sqrtf(-2.0f * log_uniform(w0));
  const uint32_t quadrant = (w1 + 0x20000000u) >> 30;
  const float a = static_cast<float>(static_cast<int32_t>(w1 - (quadrant << 30))) * 1.46291807926716e-9f;  // <= pi/4
  const float z = a * a;
  float s = madd(-1.9515295891e-4f, z, 8.3321608736e-3f);
  s = madd(s, z, -1.6666654611e-1f);
  s = madd(s * z, a, a);
  float c = madd(2.443315711809948e-5f, z, -1.388731625493765e-3f);
  c = madd(c, z, 4.166664568298827e-2f);
  c = madd(c, z * z, madd(-0.5f, z, 1.0f));
  const float cosine = r * ((quadrant & 1u) ? s : c);
  const float sine = r * ((quadrant & 1u) ? c : s);
  first = bits_as<float>(bits_as<uint32_t>(cosine) ^ (((quadrant + 1u) & 2u) << 30));
  second = bits_as<float>(bits_as<uint32_t>(sine) ^ ((quadrant & 2u) << 30));
}

struct Key {
  uint32_t low, high;
};

inline Key make_key(int64_t key) {
  const uint64_t bits = static_cast<uint64_t>(key);
  return {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)};
}

// Elements 4 block .. 4 block + 3 of the stream.
RTIL_HD void normal4(Key key, uint32_t block_low, uint32_t block_high, float (&out)[4]) {
  uint32_t words[4] = {block_low, block_high, 0, 0};
  philox4x32(key.low, key.high, words);
  box_muller(words[0], words[1], out[0], out[1]);
  box_muller(words[2], words[3], out[2], out[3]);
}

RTIL_HD float normal1(Key key, uint64_t i) {
  const uint64_t block = i >> 2;
  uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
  philox4x32(key.low, key.high, words);
  const bool upper = (i & 2u) != 0;
  float first, second;
  box_muller(upper ? words[2] : words[0], upper ? words[3] : words[1], first, second);
  return (i & 1u) != 0 ? second : first;
}

}  // namespace rtil
