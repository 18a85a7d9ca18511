// What the operations' host code needs of torch: layouts, types, empty results. Written against the stable ABI.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "common.h"

#define RTIL_LOCAL __attribute__((visibility("hidden")))  // as torch's own Tensor class is

namespace rtil {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

template <class T>
inline constexpr ScalarType type_of = ScalarType::Undefined;
template <>
inline constexpr ScalarType type_of<double> = ScalarType::Double;
template <>
inline constexpr ScalarType type_of<float> = ScalarType::Float;
template <>
inline constexpr ScalarType type_of<Half> = ScalarType::Half;
template <>
inline constexpr ScalarType type_of<BFloat16> = ScalarType::BFloat16;

// Calls f(T{}) with the element type.
template <class F>
auto dispatch(ScalarType type, F&& f) {
  switch (type) {
    case ScalarType::Double:
      return f(double{});
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Half:
      return f(Half{});
    case ScalarType::BFloat16:
      return f(BFloat16{});
    default:
      STD_TORCH_CHECK(false, "rtil ops take float64, float32, float16 and bfloat16 tensors");
  }
}

template <class T>
const T* read(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

template <class T>
T* write(Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

template <class A>
const A* read_or_null(const MaybeTensor& x) {
  return x ? read<A>(*x) : nullptr;
}

// Whether x lies in memory as N H W C, without gaps, and not as N C H W, too.
inline bool is_nhwc(const Tensor& x) {
  if (x.dim() != 4 || x.is_contiguous()) return false;
  int64_t expected = 1;
  for (const int dim : {1, 3, 2, 0}) {
    if (x.size(dim) != 1 && x.stride(dim) != expected) return false;
    expected *= x.size(dim);
  }
  return true;
}

inline Tensor dense(const Tensor& x, bool nhwc) {
  if (nhwc ? is_nhwc(x) : x.is_contiguous()) return x;
  return torch::stable::contiguous(x, nhwc ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

inline Tensor with_type(const Tensor& x, ScalarType type) {
  return x.scalar_type() == type ? x : torch::stable::to(x, type);
}

inline Tensor new_tensor(const Tensor& like, const Sizes& sizes, ScalarType type, bool nhwc = false) {
  const auto format = nhwc ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  return torch::stable::empty(sizes, type, std::nullopt, like.device(), std::nullopt, format);
}

inline Tensor new_tensor(const Tensor& like) { return torch::stable::empty_like(like); }

// A batch of maps [N, C, H, W], dense in one of the two layouts.
struct RTIL_LOCAL Maps {
  Tensor tensor;
  int64_t N, C, H, W;
  bool nhwc;
};

// x in N C H W where it is in neither of the layouts.
inline Maps as_maps(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "expected [N, C, H, W], got ", x.dim(), " dimensions");
  const bool nhwc = is_nhwc(x);
  return {dense(x, nhwc), x.size(0), x.size(1), x.size(2), x.size(3), nhwc};
}

// Parameter of an operation: contiguous, in the type that x is accumulated in, with the number of elements it needs.
inline Tensor as_parameter(const Tensor& p, ScalarType x_type, int64_t elements, const char* name) {
  STD_TORCH_CHECK(p.numel() == elements, name, " has ", p.numel(), " elements, expected ", elements);
  return dense(with_type(p, x_type == ScalarType::Double ? ScalarType::Double : ScalarType::Float), false);
}

inline MaybeTensor as_parameter(const MaybeTensor& p, ScalarType x_type, int64_t elements, const char* name) {
  return p ? MaybeTensor(as_parameter(*p, x_type, elements, name)) : std::nullopt;
}

}  // namespace rtil
