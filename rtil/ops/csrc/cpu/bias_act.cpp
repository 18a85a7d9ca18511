// Bias, activation and gain on the CPU. The bias is laid out once to a period of the flat memory, so that there
// is one long loop over contiguous memory whatever the layout and however short a row is.
#include <vector>

#include "strips.h"

namespace rtil {
namespace {

constexpr int64_t kPeriod = 2048;  // elements of the repeated bias, in the first cache

// Dense maps as [outer, C, inner] in memory.
struct Flat {
  Tensor tensor;
  int64_t C, inner;
};

Flat as_flat(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() >= 2, "expected [N, C, ...], got ", x.dim(), " dimensions");
  const bool nhwc = is_nhwc(x);
  int64_t inner = 1;
  for (int64_t dim = 2; dim < x.dim(); ++dim) inner *= nhwc ? 1 : x.size(dim);
  return {dense(x, nhwc), x.size(1), inner};
}

template <class A>
struct Function {
  Lanes<A> slope, gain;

  Function(A s, A g) : slope(splat<A>(s)), gain(splat<A>(g)) {}

  RTIL_HD Lanes<A> operator()(Lanes<A> v) const { return gain * (v > 0 ? v : slope * v); }
};

template <class T>
void activate(const T* x, T* y, int64_t n, const Acc<T>* bias, const Function<Acc<T>>& function) {
  const Function<Acc<T>> f = function;
  over_lanes<Acc<T>>(n, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
    store<T>(y + i, f(load<Acc<T>>(x + i, lanes) + load<Acc<T>>(bias + i, lanes)), lanes);
  });
}

template <class T>
void run(const Flat& x, const MaybeTensor& b, T* y, Acc<T> slope, Acc<T> gain) {
  using A = Acc<T>;
  const Function<A> function(slope, gain);
  const int64_t total = x.tensor.numel();
  const T* from = read<T>(x.tensor);
  const int64_t all = x.C * x.inner;  // after which the bias repeats
  const A* bias = read_or_null<A>(b);
  const int64_t repeats = bias == nullptr ? kPeriod : std::max<int64_t>(1, kPeriod / all);
  if (bias == nullptr || all <= kPeriod) {
    const int64_t period = bias == nullptr ? kPeriod : repeats * all;
    std::vector<A> laid(period, A(0));
    for (int64_t i = 0; bias != nullptr && i < period; ++i) laid[i] = bias[i / x.inner % x.C];
    parallel_tasks((total + period - 1) / period, period, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * period; i < std::min(total, end * period); i += period) {
        activate(from + i, y + i, std::min(period, total - i), laid.data(), function);
      }
    });
    return;
  }
  if (x.inner == 1) {
    parallel_tasks(total / x.C, x.C, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * x.C; i < end * x.C; i += x.C) activate(from + i, y + i, x.C, bias, function);
    });
    return;
  }
  parallel_tasks(total / x.inner, x.inner, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = from + row * x.inner;
      T* out = y + row * x.inner;
      const Lanes<A> shift = splat<A>(bias[row % x.C]);
      over_lanes<A>(x.inner, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        store<T>(out + i, function(load<A>(in + i, lanes) + shift), lanes);
      });
    }
  });
}

template <class T>
void run_grad(const T* g, const T* y, T* out, int64_t total, Acc<T> slope, Acc<T> gain) {
  using A = Acc<T>;
  const Lanes<A> sign = splat<A>(gain < 0 ? A(-1) : A(1));
  const Lanes<A> above = splat<A>(gain), below = splat<A>(slope * gain);
  parallel_tasks((total + kPeriod - 1) / kPeriod, kPeriod, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kPeriod;
    over_lanes<A>(std::min(total, end * kPeriod) - from, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
      const Lanes<A> value = load<A>(y + from + i, lanes);
      const Lanes<A> factor = value * sign > 0 ? above : below;
      store<T>(out + from + i, load<A>(g + from + i, lanes) * factor, lanes);
    });
  });
}

Tensor bias_act_cpu(const Tensor& x, const MaybeTensor& b, double slope, double gain) {
  const Flat flat = as_flat(x);
  const MaybeTensor bias = as_parameter(b, x.scalar_type(), flat.C, "b");
  Tensor y = torch::stable::empty_like(flat.tensor);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    if (x.numel() > 0) run<T>(flat, bias, write<T>(y), slope, gain);
  });
  return y;
}

Tensor bias_act_grad_cpu(const Tensor& g, const Tensor& y, double slope, double gain) {
  const Flat flat = as_flat(y);
  STD_TORCH_CHECK(g.numel() == y.numel(), "the gradient has ", g.numel(), " elements, expected ", y.numel());
  const Tensor gs = dense(with_type(g, y.scalar_type()), is_nhwc(flat.tensor));
  Tensor out = torch::stable::empty_like(flat.tensor);
  dispatch(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    run_grad<T>(read<T>(gs), read<T>(flat.tensor), write<T>(out), y.numel(), slope, gain);
  });
  return out;
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CPU, m) {
  m.impl("bias_act", TORCH_BOX(&rtil::bias_act_cpu));
  m.impl("bias_act_grad", TORCH_BOX(&rtil::bias_act_grad_cpu));
}
