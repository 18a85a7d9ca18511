// Host code common to the GPU's operations, for any `Launch`: of CUDA, or the loop of a test on the CPU.
//
// A Launch has `fill`, the number of threads that keep the machine busy, and launch(body, threads).
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "pack.h"
#include "tensors.h"

namespace rtil {

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline uint32_t as_index(int64_t n) {
  STD_TORCH_CHECK(n < std::numeric_limits<int32_t>::max(), "a map is too large for the CUDA kernels (", n, " threads)");
  return static_cast<uint32_t>(n);
}

// Rows for each thread: few enough that there are threads for the whole machine, many enough to share their beginnings.
inline Work make_work(int64_t planes, int64_t packs, int64_t groups, int64_t steps, int64_t most_rows, int64_t fill) {
  const int64_t wanted = planes * packs * groups * steps / fill;
  const int64_t strips = ceil_divide(steps, std::clamp<int64_t>(wanted, 1, most_rows));
  const uint32_t total = as_index(planes * packs * groups * strips);
  return {as_index(packs), as_index(groups), as_index(strips), as_index(ceil_divide(steps, strips)), total};
}

inline Frame frame_of(const Maps& maps) {
  return {maps.C, static_cast<int32_t>(as_index(maps.H)), static_cast<int32_t>(as_index(maps.W)), maps.nhwc};
}

inline bool aligned(std::initializer_list<const void*> pointers, int64_t bytes) {
  return std::all_of(pointers.begin(), pointers.end(),
                     [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; });
}

inline void check_device(const Tensor& x, std::initializer_list<MaybeTensor> others) {
  for (const MaybeTensor& other : others) {
    const bool same = !other || (other->is_cuda() == x.is_cuda() && other->get_device_index() == x.get_device_index());
    STD_TORCH_CHECK(same, "all tensors must be on the device of the first: move them there");
  }
}

// Parameters are read in packs.
inline Tensor for_packs(const Tensor& p) {
  return aligned({p.const_data_ptr()}, kLargestAccess) ? p : torch::stable::clone(p);
}

inline MaybeTensor for_packs(const MaybeTensor& p) { return p ? MaybeTensor(for_packs(*p)) : std::nullopt; }

// Elements a thread has: V channels of X columns, where channels can be moved in packs, else kSingle columns of one.
template <int kChannels, int kColumns, int kAlone>
struct Shape {
  static constexpr int V = kChannels, X = kColumns, kSingle = kAlone;

  // Calls f with V and X as types.
  template <class F>
  static auto choose(bool packs, F&& f) {
    if (packs) return f(std::integral_constant<int, V>{}, std::integral_constant<int, X>{});
    return f(std::integral_constant<int, 1>{}, std::integral_constant<int, kSingle>{});
  }
};

// Measured nowhere yet: chosen so that registers leave room for 400 to 500 threads a processor without spills, and
// loads overlap little.
template <class T>
inline constexpr int kWhole = kLargestAccess / sizeof(T);
template <class T>
using FilterShape = Shape<std::min(4, kWhole<T>), 8 / sizeof(T), 2>;
template <class T>
using UpShape = Shape<kWhole<T>, 2, 2>;
template <class T>
using DownShape = Shape<std::min(4, kWhole<T>), sizeof(T) == 2 ? 2 : 1, 2>;
template <class T>
using PlainGradientShape = Shape<kWhole<T>, 2, kWhole<T>>;
template <class T>
using PlainShape = Shape<kWhole<T>, 4, kWhole<T>>;

}  // namespace rtil
