// Number types and arithmetic shared by the CPU kernels and the CUDA bodies.
//
// Everything that decides a sign (the activation's argument) is written with explicit fused multiply-adds, so that the
// forward and the gradient kernels round identically whatever the compiler would contract on its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define RTIL_HD __host__ __device__ __forceinline__
#define RTIL_UNROLL _Pragma("unroll")
#else
#define RTIL_HD inline __attribute__((always_inline))
#define RTIL_UNROLL _Pragma("GCC unroll 16")
#endif

namespace rtil {

struct BFloat16 {
  uint16_t bits;
};

struct Half {
  uint16_t bits;
};

template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using Acc = typename Accumulator<T>::type;

template <class To, class From>
RTIL_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

RTIL_HD double widen(double v) { return v; }
RTIL_HD float widen(float v) { return v; }
RTIL_HD float widen(BFloat16 v) { return bits_as<float>(static_cast<uint32_t>(v.bits) << 16); }

RTIL_HD float widen(Half v) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(v.bits));
#else
  // The product with 2^112 moves the exponent's bias and makes subnormals normal.
  const uint32_t magnitude = static_cast<uint32_t>(v.bits & 0x7fff) << 13;
  const uint32_t scaled = bits_as<uint32_t>(bits_as<float>(magnitude) * 0x1p112f);
  const uint32_t finite = magnitude < 0x0f800000u ? scaled : (magnitude | 0x7f800000u);
  return bits_as<float>(finite | (static_cast<uint32_t>(v.bits & 0x8000) << 16));
#endif
}

template <class T>
RTIL_HD T narrow(Acc<T> v);

template <>
RTIL_HD double narrow<double>(double v) {
  return v;
}

template <>
RTIL_HD float narrow<float>(float v) {
  return v;
}

template <>
RTIL_HD BFloat16 narrow<BFloat16>(float v) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(v))};
#else
  const uint32_t u = bits_as<uint32_t>(v);
  const uint32_t even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(v != v ? 0x7fc0u : even)};
#endif
}

template <>
RTIL_HD Half narrow<Half>(float v) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(v))};
#else
  const uint32_t u = bits_as<uint32_t>(v);
  const uint32_t magnitude = u & 0x7fffffffu;
  // Adding 0.5 shifts a subnormal result's bits to the end of the word, rounded to even by the addition itself.
  const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t half = magnitude >= 0x47800000u ? huge : finite;
  return {static_cast<uint16_t>(half | ((u >> 16) & 0x8000u))};
#endif
}

// a * b + c, rounded once where the machine has the instruction.
RTIL_HD float madd(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

RTIL_HD double madd(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class A>
RTIL_HD A leaky_relu(A v, A slope) {
  const A small = slope * v;
  return v > 0 ? v : small;
}

// Argument of a styled convolution's activation.
template <class A>
RTIL_HD A pre_activation(A u, A d, A strength, A noise, A b) {
  return madd(u, d, madd(strength, noise, b));
}

}  // namespace rtil
