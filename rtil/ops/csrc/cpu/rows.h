// Building blocks of the CPU kernels: weighted sums of rows in the accumulation type, and the split among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../common.h"
#include "../upfirdn2d.h"

#if defined(__GNUC__) && !defined(__clang__)
#define RTIL_INDEPENDENT _Pragma("GCC ivdep")
#else
#define RTIL_INDEPENDENT
#endif

#define RTIL_APART __attribute__((noinline))

namespace rtil {

constexpr int64_t kGrain = 16384;       // elements that are worth a thread
constexpr int64_t kTileElements = 4096;  // of a row of partial sums that stays in the first cache

// Calls f(begin, end) for parts of [0, tasks).
template <class F>
void parallel_tasks(int64_t tasks, int64_t elements_per_task, const F& f) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements_per_task));
  torch::stable::parallel_for(0, tasks, grain, f);
}

// Zeros at an address where vector loads do not cross cache lines.
template <class A>
class Scratch {
 public:
  explicit Scratch(int64_t n) : storage_(n + kLine, A(0)) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    data_ = storage_.data() + (kLine - address % 64 / sizeof(A)) % kLine;
  }
  Scratch(const Scratch&) = delete;
  A* data() { return data_; }

 private:
  static constexpr int64_t kLine = 64 / sizeof(A);
  std::vector<A> storage_;
  A* data_;
};

template <int K, class T>
void weighted_sum(const T* const* rows, const Acc<T>* weights, Acc<T>* __restrict out, int64_t n) {
  const T* __restrict r[K];
  Acc<T> w[K];
  for (int k = 0; k < K; ++k) {
    r[k] = rows[k];
    w[k] = weights[k];
  }
  RTIL_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    Acc<T> sum = w[0] * widen(r[0][i]);
    if constexpr (K > 1) sum = madd(w[1], widen(r[1][i]), sum);
    if constexpr (K > 2) sum = madd(w[2], widen(r[2][i]), sum);
    if constexpr (K > 3) sum = madd(w[3], widen(r[3][i]), sum);
    out[i] = sum;
  }
}

// out = sum of weights[k] * rows[k] over n elements.
template <class T>
void sum_rows(const T* const* rows, const Acc<T>* weights, int count, Acc<T>* __restrict out, int64_t n) {
  switch (std::min(count, 4)) {
    case 0:
      std::fill(out, out + n, Acc<T>(0));
      return;
    case 1:
      return weighted_sum<1>(rows, weights, out, n);
    case 2:
      return weighted_sum<2>(rows, weights, out, n);
    case 3:
      return weighted_sum<3>(rows, weights, out, n);
    default:
      weighted_sum<4>(rows, weights, out, n);
  }
  for (int k = 4; k < count; ++k) {
    const T* __restrict row = rows[k];
    const Acc<T> w = weights[k];
    RTIL_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) out[i] = madd(w, widen(row[i]), out[i]);
  }
}

// Weighted sum of rows over the pixels [first, last) of a row of `width` pixels with `inner` elements each; 0 outside.
template <class T>
void sum_window(const T* const* rows, const Acc<T>* weights, int count, int64_t width, int64_t inner, int64_t first,
                int64_t last, Acc<T>* out) {
  const int64_t lo = std::clamp<int64_t>(0, first, last);
  const int64_t hi = std::clamp<int64_t>(width, lo, last);
  std::fill(out, out + (lo - first) * inner, Acc<T>(0));
  const T* shifted[kMostTaps];
  for (int k = 0; k < count; ++k) shifted[k] = rows[k] + lo * inner;
  sum_rows(shifted, weights, count, out + (lo - first) * inner, (hi - lo) * inner);
  std::fill(out + (hi - first) * inner, out + (last - first) * inner, Acc<T>(0));
}

}  // namespace rtil
