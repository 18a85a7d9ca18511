// Normals from the counter for the GPU bodies.
#pragma once

#include "counter.h"
#include "pack.h"

namespace rtil {

// Elements i .. i + 3 of the stream, wherever i lies in its block. Not inlined: the generator is long.
RTIL_NOINLINE Pack<float, 4> normals_at(Key key, uint64_t i) {
  const uint64_t block = i >> 2, next = block + 1;
  float a[8];
  float part[4];
  normal4(key, static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), part);
  RTIL_UNROLL
  for (int k = 0; k < 4; ++k) a[k] = a[k + 4] = part[k];
  if (i & 3u) {
    normal4(key, static_cast<uint32_t>(next), static_cast<uint32_t>(next >> 32), part);
    RTIL_UNROLL
    for (int k = 0; k < 4; ++k) a[k + 4] = part[k];
  }
  // shifted without an index that is only known at run time, which would send the array to memory
  RTIL_UNROLL
  for (int k = 0; k < 6; ++k) a[k] = (i & 2u) ? a[k + 2] : a[k];
  Pack<float, 4> out;
  RTIL_UNROLL
  for (int k = 0; k < 4; ++k) out.v[k] = (i & 1u) ? a[k + 1] : a[k];
  return out;
}

// A thread writes one block of the stream.
template <class A>
struct CounterBody {
  static constexpr int kBlocks = kUsualBlocks;
  Key key;
  A* out;
  uint64_t total;

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint64_t id = static_cast<uint64_t>(block) * kThreads + thread;
    if (4 * id >= total) return;
    float drawn[4];
    normal4(key, static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32), drawn);
    A values[4];
    RTIL_UNROLL
    for (int k = 0; k < 4; ++k) values[k] = drawn[k];
    if (4 * id + 4 <= total) {
      store_values(out + 4 * id, values);
      return;
    }
    RTIL_UNROLL
    for (int k = 0; k < 4; ++k) {
      if (4 * id + k < total) store_one(out + 4 * id + k, values[k]);
    }
  }
};

}  // namespace rtil
