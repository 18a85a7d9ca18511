// The styled tail and its gradient with the GPU's bodies.
#pragma once

#include "bias_act_launch.h"
#include "plain_body.h"
#include "tail_body.h"
#include "upfirdn2d_launch.h"

namespace rtil {

constexpr int64_t kMostPlainRows = 4;  // groups of pixels for each thread
constexpr int64_t kMostSumRows = 64;   // likewise where it leaves sums: they are few beside the map

// Maps that enter the tail, and the filter that is left to do there.
struct RTIL_LOCAL TailInput {
  Maps maps;
  MaybeTensor taps;
  Frame out;
};

template <class Launch>
TailInput tail_input(const Launch& launch, const Tensor& x, const MaybeTensor& fir) {
  if (!fir) {
    const Maps maps = as_maps(x);
    return {maps, std::nullopt, frame_of(maps)};
  }
  STD_TORCH_CHECK(fir->dim() == 1, "styled_tail: fir has the taps [k] of a separable filter");
  const int64_t k = fir->numel(), before = (k - 1) / 2, after = (k - 2) / 2;
  if (k != kTailTaps) {
    const std::vector<int64_t> one{1, 1}, pad{before, after, before, after};
    return tail_input(launch, upfirdn2d_with(launch, x, *fir, one, one, pad, false, kTailGain), std::nullopt);
  }
  const Maps maps = as_maps(x);
  const int64_t H = tail_size(maps.H, true), W = tail_size(maps.W, true);
  STD_TORCH_CHECK(H >= 1 && W >= 1, "styled_tail: a map of ", maps.H, " x ", maps.W, " is smaller than its filter");
  const Frame out{maps.C, static_cast<int32_t>(H), static_cast<int32_t>(W), maps.nhwc};
  return {maps, as_parameter(*fir, x.scalar_type(), k, "fir"), out};
}

// The tail's parameters where packs can read them, and noise drawn where there is none: once for all channels.
template <class Launch>
TailTensors tail_tensors(const Launch& launch, const TailInput& in, const MaybeTensor& d, const MaybeTensor& noise,
                         const MaybeTensor& strength, const Tensor& b, int64_t noise_key) {
  TailTensors tail(in.maps, in.out.H, in.out.W, d, noise, strength, b);
  if (strength && !noise) {
    const ScalarType type = in.maps.tensor.scalar_type();
    const bool exact = type == ScalarType::Double;
    Tensor drawn = new_tensor(in.maps.tensor, {in.maps.N, 1, in.out.H, in.out.W}, exact ? type : ScalarType::Float);
    const Key key = make_key(noise_key);
    exact ? run_counter<double>(launch, key, drawn) : run_counter<float>(launch, key, drawn);
    tail.noise = drawn;
    tail.noise_stride = in.out.pixels();
  }
  tail.d = for_packs(tail.d);
  tail.noise = for_packs(tail.noise);
  tail.b = for_packs(tail.b);
  return tail;
}

// One pass over the maps with the filter, in strips of `fir_rows` at most, or without it. make(V, X, out, whole,
// whole_noise, work) returns what to do with the results; out is one row of pixels where nothing is filtered.
template <class T, class FilterShapeOf, class PlainShapeOf, class Launch, class Make>
void run_tail(const Launch& launch, const TailInput& in, int64_t fir_rows, int64_t plain_rows,
              std::initializer_list<const void*> pointers, const Make& make) {
  const Maps& x = in.maps;
  const T* from = read<T>(x.tensor);
  const bool in_place = aligned({from}, kLargestAccess) && aligned(pointers, kLargestAccess);
  const auto packs = [&](int V) { return x.nhwc && x.C % V == 0 && in_place; };
  if (in.taps) {
    FilterShapeOf::choose(packs(FilterShapeOf::V), [&](auto v, auto columns) {
      constexpr int V = v, X = columns;
      const auto pass =
          make_fir_pass<T>(x, in.out, *in.taps, kTailGain, false, 1, kTailPad, kTailPad, V, X, fir_rows, launch.fill);
      const bool whole = whole_columns<T>(in.out, 0, X, pointers);
      const auto finish = make(v, columns, in.out, whole, in.out.W % X == 0, pass.work);
      launch(FirBody<T, V, X, 1, 1, std::decay_t<decltype(finish)>>{pass.params, pass.work, finish}, pass.work.total);
    });
    return;
  }
  PlainShapeOf::choose(packs(PlainShapeOf::V), [&](auto v, auto columns) {
    constexpr int V = v, X = columns;
    const Frame flat{x.C, 1, static_cast<int32_t>(as_index(in.out.pixels())), x.nhwc};
    const int64_t planes = x.nhwc ? x.N : x.N * x.C, channel_packs = x.nhwc ? x.C / V : 1;
    const int64_t span = ceil_divide(kWarp, channel_packs), pixel_groups = ceil_divide(flat.W, X);
    Work work = make_work(planes, channel_packs, span, ceil_divide(pixel_groups, span), plain_rows, launch.fill);
    work.groups *= work.strips;
    work.strips = 1;
    const bool whole = !x.nhwc && flat.W % X == 0 && in_place;
    const auto finish = make(v, columns, flat, whole, flat.W % X == 0, work);
    const PlainBody<T, V, X, std::decay_t<decltype(finish)>> body{
        from, flat, work, as_index(span), as_index(pixel_groups), whole, finish};
    launch(body, work.total);
  });
}

template <class Launch>
Tensor styled_tail_with(const Launch& launch, const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d,
                        const MaybeTensor& noise, const MaybeTensor& strength, const Tensor& b, const MaybeTensor& z1,
                        const MaybeTensor& sigma, int64_t noise_key, int64_t z1_key, double slope, double gain) {
  check_device(x, {fir, d, noise, strength, b, z1, sigma});
  const TailInput in = tail_input(launch, x, fir);
  const ScalarType type = x.scalar_type();
  const int64_t N = in.maps.N, C = in.maps.C;
  Tensor y = new_tensor(x, {N, C, in.out.H, in.out.W}, type, in.maps.nhwc);
  const TailTensors tensors = tail_tensors(launch, in, d, noise, strength, b, noise_key);
  const MaybeTensor deviations = as_parameter(sigma, type, N, "sigma");
  MaybeTensor z;
  if (z1) {
    STD_TORCH_CHECK(z1->numel() == y.numel(), "z1 has not the shape of the result");
    z = dense(with_type(*z1, type), in.maps.nhwc);
  }
  if (y.numel() == 0) return y;
  dispatch(type, [&](auto element) {
    using T = decltype(element);
    using A = Acc<T>;
    const auto pointers = tensors.pointers<A>(noise_key, slope, gain);
    T* to = write<T>(y);
    const T* from_z = read_or_null<T>(z);
    const auto run = [&](auto source) {
      constexpr ZSource kZ = decltype(source)::value;
      run_tail<T, FilterShape<T>, PlainShape<T>>(
          launch, in, kMostFirRows, kMostPlainRows, {to, from_z},
          [&](auto v, auto columns, const Frame& out, bool whole, bool whole_noise, const Work&) {
            constexpr int V = v, X = columns;
            return TailForward<T, V, X, kZ>{
                {pointers, out, whole, whole_noise}, from_z, read_or_null<A>(deviations), make_key(z1_key), to};
          });
    };
    if (z) {
      run(std::integral_constant<ZSource, ZSource::kTensor>{});
    } else if (deviations) {
      run(std::integral_constant<ZSource, ZSource::kDrawn>{});
    } else {
      run(std::integral_constant<ZSource, ZSource::kNone>{});
    }
  });
  return y;
}

template <class Launch>
TailSums styled_tail_grad_with(const Launch& launch, const Tensor& g, const Tensor& x, const MaybeTensor& fir,
                               const MaybeTensor& d, const MaybeTensor& noise, const MaybeTensor& strength,
                               const Tensor& b, int64_t noise_key, double slope, double gain, bool need_strength,
                               bool need_noise) {
  check_device(g, {x, fir, d, noise, strength, b});
  const TailInput in = tail_input(launch, x, fir);
  const ScalarType type = x.scalar_type();
  const ScalarType exact = type == ScalarType::Double ? type : ScalarType::Float;
  const int64_t N = in.maps.N, C = in.maps.C, H = in.out.H, W = in.out.W;
  const bool nhwc = in.maps.nhwc;
  STD_TORCH_CHECK(g.numel() == N * C * H * W, "the gradient has not the shape of the result");
  const Tensor gs = dense(with_type(g, type), nhwc);
  Tensor h = new_tensor(x, {N, C, H, W}, type, nhwc);
  const Sizes none{0}, scalar{}, pixels{N, 1, H, W};
  if (h.numel() == 0) {
    const auto zeros = [&](const Sizes& sizes) { return torch::stable::new_zeros(x, sizes, exact); };
    return {h, zeros({N, C}), zeros({N, C}), zeros(need_strength ? scalar : none), zeros(need_noise ? pixels : none)};
  }
  const TailTensors tensors = tail_tensors(launch, in, d, noise, strength, b, noise_key);
  std::vector<Tensor> parts;
  dispatch(type, [&](auto element) {
    using T = decltype(element);
    using A = Acc<T>;
    const auto pointers = tensors.pointers<A>(noise_key, slope, gain);
    const T* gradient = read<T>(gs);
    T* to = write<T>(h);
    run_tail<T, FilterShape<T>, PlainGradientShape<T>>(
        launch, in, kMostSumRows, kMostSumRows, {gradient, to},
        [&](auto v, auto columns, const Frame& out, bool whole, bool whole_noise, const Work& work) {
          constexpr int V = v, X = columns;
          const int64_t count = static_cast<int64_t>(work.groups) * work.strips;
          const auto part = [&](const Sizes& sizes) {
            return write<A>(parts.emplace_back(new_tensor(x, sizes, exact)));
          };
          const auto of_channels = [&](int64_t c) { return nhwc ? Sizes{N, count, c} : Sizes{N, c, count}; };
          const Sizes of_packs = nhwc ? Sizes{N, H, W, C / V} : Sizes{N, C, H, W};
          A* const gu = part(of_channels(C));
          A* const sum = part(of_channels(C));
          A* const gn = part(need_strength ? of_channels(nhwc ? C / V : C) : none);
          A* const c = part(need_noise ? of_packs : none);
          return TailGradient<T, V, X>{{pointers, out, whole, whole_noise},
                                       gradient,
                                       to,
                                       gu,
                                       sum,
                                       need_strength ? gn : nullptr,
                                       need_noise ? c : nullptr,
                                       count};
        });
  });
  const auto sum = [&](int part, Sizes dims) { return torch::stable::sum(parts[part], dims); };
  const int64_t over_parts = nhwc ? 1 : 2, over_channels = nhwc ? 3 : 1;
  return {h, sum(0, {over_parts}), sum(1, {over_parts}), need_strength ? sum(2, {0, 1, 2}) : parts[2],
          need_noise ? torch::stable::view(sum(3, {over_channels}), pixels) : parts[3]};
}

}  // namespace rtil
