// A register of float or double lanes, loaded from and stored to any element type, all lanes or some of them.
// AVX-512 has instructions for all of it; elsewhere the compiler makes what it can of its own vector types.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../common.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define RTIL_AVX512 1
#endif
#if defined(RTIL_AVX512) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

namespace rtil {

#if defined(RTIL_AVX512)
constexpr int kLaneBytes = 64;
#else
constexpr int kLaneBytes = 32;
#endif

template <class A>
struct LanesOf;
template <>
struct LanesOf<float> {
  typedef float type __attribute__((vector_size(kLaneBytes)));
};
template <>
struct LanesOf<double> {
  typedef double type __attribute__((vector_size(kLaneBytes)));
};
template <class A>
using Lanes = typename LanesOf<A>::type;
template <class A>
constexpr int kLanes = kLaneBytes / sizeof(A);

// Which lanes exist in memory: all, or those from `first` to before `last`. The others are loaded as 0.
struct All {};
struct Some {
  int first, last;
};

template <class A>
RTIL_HD Lanes<A> splat(A v) {
  return v - Lanes<A>{};
}

template <class A>
RTIL_HD Lanes<A> fma(Lanes<A> a, Lanes<A> b, Lanes<A> c) {
#if defined(RTIL_AVX512)
  if constexpr (sizeof(A) == 4) return _mm512_fmadd_ps(a, b, c);
  if constexpr (sizeof(A) == 8) return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  if constexpr (sizeof(A) == 4) return _mm256_fmadd_ps(a, b, c);
  if constexpr (sizeof(A) == 8) return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

template <class A, class T>
RTIL_HD Lanes<A> load(const T* p, All) {
  if constexpr (sizeof(T) == sizeof(A)) {
    Lanes<A> v;
    memcpy(&v, p, sizeof(v));
    return v;
  } else {
#if defined(RTIL_AVX512)
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(p));
    if constexpr (std::is_same_v<T, Half>) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#else
    Lanes<A> v;
    for (int i = 0; i < kLanes<A>; ++i) v[i] = widen(p[i]);
    return v;
#endif
  }
}

template <class A, class T>
RTIL_HD Lanes<A> load(const T* p, Some some) {
#if defined(RTIL_AVX512)
  const auto mask = static_cast<__mmask16>(((1u << some.last) - 1u) & ~((1u << some.first) - 1u));
  if constexpr (std::is_same_v<T, float>) return _mm512_maskz_loadu_ps(mask, p);
  if constexpr (std::is_same_v<T, double>) return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
  if constexpr (std::is_same_v<T, BFloat16>) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
  }
  if constexpr (std::is_same_v<T, Half>) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
#else
  Lanes<A> v{};
  for (int i = some.first; i < some.last; ++i) v[i] = widen(p[i]);
  return v;
#endif
}

#if defined(RTIL_AVX512)
template <class T>
RTIL_HD __m256i narrow_lanes(Lanes<float> v) {
  if constexpr (std::is_same_v<T, Half>) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  } else {
#if defined(__AVX512BF16__)
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));  // takes subnormals for 0
#else
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_epi32(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i even = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i bits = _mm512_mask_mov_epi32(even, nan, _mm512_set1_epi32(0x7fc00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
#endif
  }
}
#endif

template <class T>
RTIL_HD void store(T* p, Lanes<Acc<T>> v, All) {
  if constexpr (sizeof(T) == sizeof(Acc<T>)) {
    memcpy(p, &v, sizeof(v));
  } else {
#if defined(RTIL_AVX512)
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(p), narrow_lanes<T>(v));
#else
    for (int i = 0; i < kLanes<Acc<T>>; ++i) p[i] = narrow<T>(v[i]);
#endif
  }
}

template <class T>
RTIL_HD void store(T* p, Lanes<Acc<T>> v, Some some) {
#if defined(RTIL_AVX512)
  const auto mask = static_cast<__mmask16>(((1u << some.last) - 1u) & ~((1u << some.first) - 1u));
  if constexpr (std::is_same_v<T, float>) _mm512_mask_storeu_ps(p, mask, v);
  if constexpr (std::is_same_v<T, double>) _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), v);
  if constexpr (sizeof(T) == 2) _mm256_mask_storeu_epi16(p, mask, narrow_lanes<T>(v));
#else
  for (int i = some.first; i < some.last; ++i) p[i] = narrow<T>(v[i]);
#endif
}

template <class A>
RTIL_HD A sum_lanes(Lanes<A> v) {
#if defined(RTIL_AVX512)
  if constexpr (sizeof(A) == 4) return _mm512_reduce_add_ps(v);
#endif
  A sum = 0;
  for (int i = 0; i < kLanes<A>; ++i) sum += v[i];
  return sum;
}

}  // namespace rtil
