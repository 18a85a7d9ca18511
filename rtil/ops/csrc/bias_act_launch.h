// bias_act, its gradient and counter_normal with the GPU's bodies.
#pragma once

#include "bias_act_body.h"
#include "counter_body.h"
#include "launch.h"

namespace rtil {

inline int64_t threads_for(int64_t packs) { return ceil_divide(packs, kThreads * kPacksAThread) * kThreads; }

// Dense maps in their own memory order: the channel changes every `inner` elements.
struct RTIL_LOCAL FlatMaps {
  Tensor tensor;
  int64_t C, inner;
  bool nhwc;  // or [N, C]: neighbours in memory are neighbouring channels
};

inline FlatMaps as_flat_maps(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() >= 2, "expected [N, C, ...], got ", x.dim(), " dimensions");
  const bool nhwc = is_nhwc(x);
  int64_t inner = 1;
  for (int64_t dim = 2; dim < x.dim(); ++dim) inner *= nhwc ? 1 : x.size(dim);
  return {dense(x, nhwc), x.size(1), inner, inner == 1};
}

template <class Launch>
Tensor bias_act_with(const Launch& launch, const Tensor& x, const MaybeTensor& b, double slope, double gain) {
  check_device(x, {b});
  const FlatMaps flat = as_flat_maps(x);
  const MaybeTensor bias = for_packs(as_parameter(b, x.scalar_type(), flat.C, "b"));
  Tensor y = new_tensor(flat.tensor);
  if (x.numel() == 0) return y;
  dispatch(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Acc<T>;
    using Lanes = Shape<kWhole<T>, 1, 1>;
    const T* from = read<T>(flat.tensor);
    T* to = write<T>(y);
    const int64_t run = bias ? (flat.nhwc ? flat.C : flat.inner) : x.numel();  // what packs must divide
    Lanes::choose(run % Lanes::V == 0 && aligned({from, to}, kLargestAccess), [&](auto v, auto) {
      constexpr int V = v;
      const uint32_t packs = as_index(x.numel() / V);
      const Divisor a_channel(as_index(bias && !flat.nhwc ? flat.inner / V : 1));
      const Divisor channels(as_index(bias ? (flat.nhwc ? flat.C / V : flat.C) : 1));
      const BiasActBody<T, V> body{from,      read_or_null<A>(bias), to, packs, a_channel, channels, flat.nhwc,
                                   A(slope), A(gain)};
      launch(body, threads_for(packs));
    });
  });
  return y;
}

template <class Launch>
Tensor bias_act_grad_with(const Launch& launch, const Tensor& g, const Tensor& y, double slope, double gain) {
  check_device(y, {g});
  STD_TORCH_CHECK(g.numel() == y.numel(), "the gradient has ", g.numel(), " elements, expected ", y.numel());
  const FlatMaps flat = as_flat_maps(y);
  const Tensor gs = dense(with_type(g, y.scalar_type()), is_nhwc(flat.tensor));
  Tensor out = new_tensor(flat.tensor);
  if (y.numel() == 0) return out;
  dispatch(y.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Acc<T>;
    using Lanes = Shape<kWhole<T>, 1, 1>;
    const T *gradient = read<T>(gs), *value = read<T>(flat.tensor);
    T* to = write<T>(out);
    Lanes::choose(y.numel() % Lanes::V == 0 && aligned({gradient, value, to}, kLargestAccess), [&](auto v, auto) {
      constexpr int V = v;
      const uint32_t packs = as_index(y.numel() / V);
      launch(BiasActGradBody<T, V>{gradient, value, to, packs, A(slope), A(gain)}, threads_for(packs));
    });
  });
  return out;
}

template <class A, class Launch>
void run_counter(const Launch& launch, Key key, Tensor& out) {
  if (out.numel() == 0) return;
  launch(CounterBody<A>{key, write<A>(out), static_cast<uint64_t>(out.numel())}, ceil_divide(out.numel(), 4));
}

template <class Launch>
Tensor counter_normal_with(const Launch& launch, const std::vector<int64_t>& shape, int64_t key, const Tensor& like) {
  Tensor out = new_tensor(like, shape, ScalarType::Float);
  run_counter<float>(launch, make_key(key), out);
  return out;
}

}  // namespace rtil
