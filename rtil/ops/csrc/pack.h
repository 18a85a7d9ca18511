// What the GPU bodies share: packs of neighbouring elements, and which thread does what.
//
// A body is a function of (block, thread) that needs no other thread: a test runs the same code in a loop on the CPU.
// A thread has V channels (NHWC: V neighbours in memory) of X neighbouring columns; in NCHW V is 1.
#pragma once

#include <stdexcept>

#include "common.h"

#if defined(__CUDACC__)
#define RTIL_NOINLINE inline __host__ __device__ __noinline__
#else
#define RTIL_NOINLINE inline
#endif

namespace rtil {

constexpr uint32_t kThreads = 128;  // of a block
constexpr int kWarp = 32;
constexpr int kUsualBlocks = 4;  // on a processor at least, which leaves a thread 128 registers
constexpr int kLargestAccess = 16;  // bytes that a thread moves at once

// V neighbours in memory. Pairs of 16-bit numbers stay in one register until they are wanted.
template <class T, int V, bool kPairs = sizeof(T) == 2 && V % 2 == 0>
struct alignas(sizeof(T) * V) Pack {
  T v[V];

  RTIL_HD T element(int k) const { return v[k]; }
  RTIL_HD Acc<T> get(int k) const { return widen(v[k]); }
  RTIL_HD void set(const Acc<T> (&values)[V]) {
    RTIL_UNROLL
    for (int k = 0; k < V; ++k) v[k] = narrow<T>(values[k]);
  }
};

template <class T>
RTIL_HD uint32_t narrow_pair(float low, float high) {
  return narrow<T>(low).bits | static_cast<uint32_t>(narrow<T>(high).bits) << 16;
}

#if defined(__CUDA_ARCH__)
template <>
RTIL_HD uint32_t narrow_pair<BFloat16>(float low, float high) {
  return bits_as<uint32_t>(__floats2bfloat162_rn(low, high));
}
template <>
RTIL_HD uint32_t narrow_pair<Half>(float low, float high) {
  return bits_as<uint32_t>(__floats2half2_rn(low, high));
}
#endif

RTIL_HD float widen_half_of(BFloat16, uint32_t pair, bool high) {
  return bits_as<float>(high ? pair & 0xffff0000u : pair << 16);
}

RTIL_HD float widen_half_of(Half, uint32_t pair, bool high) {
  return widen(Half{static_cast<uint16_t>(high ? pair >> 16 : pair)});
}

template <class T, int V>
struct alignas(2 * V) Pack<T, V, true> {
  uint32_t pairs[V / 2];

  RTIL_HD T element(int k) const { return {static_cast<uint16_t>(pairs[k / 2] >> (k % 2 * 16))}; }
  RTIL_HD float get(int k) const { return widen_half_of(T{}, pairs[k / 2], k % 2 != 0); }
  RTIL_HD void set(const float (&values)[V]) {
    RTIL_UNROLL
    for (int k = 0; k < V; k += 2) pairs[k / 2] = narrow_pair<T>(values[k], values[k + 1]);
  }
};

#if defined(__CUDA_ARCH__)
template <int kBytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = unsigned short;
};
template <>
struct WordOf<4> {
  using type = unsigned int;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};
#else
// Bodies run on a processor in tests only, which watch what they write.
#if !defined(RTIL_ON_STORE)
#define RTIL_ON_STORE(p, bytes)
#endif

// A processor would not mind, a GPU does.
template <int kBytes>
inline void check_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % kBytes != 0) throw std::logic_error("a pack that is not aligned");
}
#endif

// p is aligned to the pack, and nothing writes there while the kernel runs.
template <int V, class T>
RTIL_HD Pack<T, V> load_pack(const T* p) {
#if defined(__CUDA_ARCH__)
  using Word = typename WordOf<sizeof(T) * V>::type;
  return bits_as<Pack<T, V>>(__ldg(reinterpret_cast<const Word*>(p)));
#else
  check_aligned<sizeof(Pack<T, V>)>(p);
  Pack<T, V> pack;
  memcpy(&pack, p, sizeof(pack));
  return pack;
#endif
}

template <class T, int V>
RTIL_HD void store_pack(T* p, const Pack<T, V>& pack) {
#if defined(__CUDA_ARCH__)
  using Word = typename WordOf<sizeof(T) * V>::type;
  *reinterpret_cast<Word*>(p) = bits_as<Word>(pack);
#else
  check_aligned<sizeof(Pack<T, V>)>(p);
  RTIL_ON_STORE(p, sizeof(pack));
  memcpy(p, &pack, sizeof(pack));
#endif
}

template <class A>
RTIL_HD void store_one(A* p, A value) {
  Pack<A, 1> pack;
  pack.set({value});
  store_pack(p, pack);
}

// V numbers in the largest pieces that are allowed.
template <int V, class A>
RTIL_HD void load_values(const A* p, A (&out)[V]) {
  constexpr int kPiece = V * sizeof(A) > kLargestAccess ? kLargestAccess / sizeof(A) : V;
  RTIL_UNROLL
  for (int i = 0; i < V; i += kPiece) {
    const Pack<A, kPiece> piece = load_pack<kPiece>(p + i);
    RTIL_UNROLL
    for (int k = 0; k < kPiece; ++k) out[i + k] = piece.v[k];
  }
}

template <int V, class A>
RTIL_HD void store_values(A* p, const A (&values)[V]) {
  constexpr int kPiece = V * sizeof(A) > kLargestAccess ? kLargestAccess / sizeof(A) : V;
  RTIL_UNROLL
  for (int i = 0; i < V; i += kPiece) {
    Pack<A, kPiece> piece;
    RTIL_UNROLL
    for (int k = 0; k < kPiece; ++k) piece.v[k] = values[i + k];
    store_pack(p + i, piece);
  }
}

// A sample and a channel of it.
struct Spot {
  int64_t n, c;
};

// Dense maps [N, C, H, W] in one of the two layouts.
struct Frame {
  int64_t C;
  int32_t H, W;
  bool nhwc;

  RTIL_HD int64_t inner() const { return nhwc ? C : 1; }  // from one pixel to the next
  RTIL_HD int64_t pixels() const { return static_cast<int64_t>(H) * W; }
  RTIL_HD int64_t origin(Spot at) const { return nhwc ? at.n * pixels() * C + at.c : (at.n * C + at.c) * pixels(); }
  RTIL_HD bool inside(int32_t y) const { return y >= 0 && y < H; }

  // Which of the columns x, x + 1, ... lie in the map, a bit each.
  template <int X>
  RTIL_HD uint32_t columns(int32_t x) const {
    uint32_t mask = 0;
    RTIL_UNROLL
    for (int i = 0; i < X; ++i) mask |= (x + i >= 0 && x + i < W ? 1u : 0u) << i;
    return mask;
  }
};

template <class T>
constexpr bool fits_one_access(int X) {
  return X * sizeof(T) <= kLargestAccess && (X & (X - 1)) == 0;
}

// X columns of V channels at p. `whole`: they lie side by side, aligned, none outside the map (NCHW only).
template <class T, int X, int V>
RTIL_HD void load_columns(const T* p, int64_t inner, uint32_t mask, bool whole, Pack<T, V> (&out)[X]) {
  if constexpr (V == 1 && fits_one_access<T>(X)) {
    if (whole) {
      const Pack<T, X> row = load_pack<X>(p);
      RTIL_UNROLL
      for (int i = 0; i < X; ++i) out[i].v[0] = row.element(i);
      return;
    }
  }
  RTIL_UNROLL
  for (int i = 0; i < X; ++i) out[i] = (mask >> i & 1u) ? load_pack<V>(p + i * inner) : Pack<T, V>{};
}

template <class T, int X, int V>
RTIL_HD void store_columns(T* p, int64_t inner, uint32_t mask, bool whole, const Acc<T> (&values)[X][V]) {
  if constexpr (V == 1 && fits_one_access<T>(X)) {
    if (whole) {
      Acc<T> side_by_side[X];
      RTIL_UNROLL
      for (int i = 0; i < X; ++i) side_by_side[i] = values[i][0];
      Pack<T, X> row;
      row.set(side_by_side);
      return store_pack(p, row);
    }
  }
  RTIL_UNROLL
  for (int i = 0; i < X; ++i) {
    Pack<T, V> pack;
    pack.set(values[i]);
    if (mask >> i & 1u) store_pack(p + i * inner, pack);
  }
}

// Threads are numbered so that neighbours have neighbouring packs of channels, then groups of columns.
struct Work {
  uint32_t packs, groups, strips, rows, total;
};

struct Share {
  Spot spot;
  uint32_t group, strip;
};

template <int V>
RTIL_HD Share share_of(const Work& work, const Frame& frame, uint32_t id) {
  const uint32_t pack = id % work.packs;
  id /= work.packs;
  const uint32_t group = id % work.groups;
  id /= work.groups;
  const uint32_t strip = id % work.strips, plane = id / work.strips;
  if (frame.nhwc) return {{plane, static_cast<int64_t>(pack) * V}, group, strip};
  const uint32_t C = static_cast<uint32_t>(frame.C);
  return {{plane / C, plane % C}, group, strip};
}

}  // namespace rtil
