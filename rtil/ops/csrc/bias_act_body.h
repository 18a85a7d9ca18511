// Bias, activation and gain for the GPU: memory in its own order, four packs a thread on their way at once.
#pragma once

#include "pack.h"

namespace rtil {

constexpr uint32_t kPacksAThread = 4;

// n / d for n below 2^31, as a product: a GPU has no instruction for a division (Granlund and Montgomery 1994).
struct Divisor {
  uint32_t d, factor, shift;

  constexpr explicit Divisor(uint32_t divisor) : d(divisor), factor(1), shift(0) {
    while ((uint64_t{1} << shift) < d) ++shift;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - d) << 32) / d + 1);
  }

  RTIL_HD constexpr uint32_t quotient(uint32_t n) const {
    return (static_cast<uint32_t>(static_cast<uint64_t>(n) * factor >> 32) + n) >> shift;
  }
  RTIL_HD constexpr uint32_t remainder(uint32_t n) const { return n - quotient(n) * d; }
};

template <class T_, int V>
struct BiasActBody {
  using T = T_;
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;

  const T* x;
  const A* b;  // or null
  T* y;
  uint32_t packs;
  Divisor packs_a_channel, channels;  // channels: that differ from pack to pack
  bool nhwc;                          // a pack's elements are neighbouring channels
  A slope, gain;

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint32_t first = block * (kThreads * kPacksAThread) + thread;
    Pack<T, V> raw[kPacksAThread];
    RTIL_UNROLL
    for (uint32_t q = 0; q < kPacksAThread; ++q) {
      const uint32_t i = first + q * kThreads;
      if (i < packs) raw[q] = load_pack<V>(x + static_cast<int64_t>(i) * V);
    }
    RTIL_UNROLL
    for (uint32_t q = 0; q < kPacksAThread; ++q) {
      const uint32_t i = first + q * kThreads;
      if (i >= packs) return;
      A values[V] = {};
      if (b) {
        const uint32_t channel = channels.remainder(packs_a_channel.quotient(i));
        if (nhwc) {
          load_values(b + channel * V, values);
        } else {
          values[0] = load_pack<1>(b + channel).v[0];
          RTIL_UNROLL
          for (int v = 1; v < V; ++v) values[v] = values[0];
        }
      }
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) values[v] = gain * leaky_relu(raw[q].get(v) + values[v], slope);
      Pack<T, V> out;
      out.set(values);
      store_pack(y + static_cast<int64_t>(i) * V, out);
    }
  }
};

template <class T_, int V>
struct BiasActGradBody {
  using T = T_;
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;

  const T *g, *y;
  T* out;
  uint32_t packs;
  A slope, gain;

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint32_t first = block * (kThreads * kPacksAThread) + thread;
    const A sign = gain < 0 ? A(-1) : A(1), below = slope * gain;
    Pack<T, V> gs[kPacksAThread], ys[kPacksAThread];
    RTIL_UNROLL
    for (uint32_t q = 0; q < kPacksAThread; ++q) {
      const uint32_t i = first + q * kThreads;
      if (i >= packs) continue;
      gs[q] = load_pack<V>(g + static_cast<int64_t>(i) * V);
      ys[q] = load_pack<V>(y + static_cast<int64_t>(i) * V);
    }
    RTIL_UNROLL
    for (uint32_t q = 0; q < kPacksAThread; ++q) {
      const uint32_t i = first + q * kThreads;
      if (i >= packs) return;
      A values[V];
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) values[v] = gs[q].get(v) * (ys[q].get(v) * sign > 0 ? gain : below);
      Pack<T, V> result;
      result.set(values);
      store_pack(out + static_cast<int64_t>(i) * V, result);
    }
  }
};

}  // namespace rtil
