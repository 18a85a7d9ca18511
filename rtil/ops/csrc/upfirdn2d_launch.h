// upfirdn2d with the GPU's bodies: the specialised ones for four separable taps and the factors of StyleGAN2, else any.
#pragma once

#include "fir_body.h"
#include "launch.h"
#include "resample_body.h"

namespace rtil {

constexpr int64_t kMostFirRows = 16;  // steps of a strip

// How a four-tap pass over x is divided, for results [N, C, out.H, out.W].
template <class T>
struct FirPass {
  FirParams<T> params;
  Work work;
};

template <class T>
FirPass<T> make_fir_pass(const Maps& x, const Frame& out, const Tensor& taps, double gain, bool flip, int up,
                         int64_t pad_x, int64_t pad_y, int V, int X, int64_t most_rows, int64_t fill) {
  const FirAxis ax = fir_axis(up, pad_x), ay = fir_axis(up, pad_y);
  const uint32_t steps = as_index(ceil_divide(out.H + ay.shift, up));
  const int64_t planes = x.nhwc ? x.N : x.N * x.C, packs = x.nhwc ? x.C / V : 1;
  const Work work = make_work(planes, packs, ceil_divide(out.W + ax.shift, X), steps, most_rows, fill);
  return {{read<T>(x.tensor), read<Acc<T>>(taps), static_cast<Acc<T>>(gain), flip, frame_of(x), ax, ay, steps}, work};
}

// Whether groups of X columns of NCHW maps can be moved at once.
template <class T>
bool whole_columns(const Frame& frame, int64_t shift, int X, std::initializer_list<const void*> pointers) {
  return !frame.nhwc && shift == 0 && frame.W % X == 0 && aligned(pointers, X * sizeof(T));
}

template <class T>
bool in_packs(const Maps& x, int V, std::initializer_list<const void*> pointers) {
  return x.nhwc && x.C % V == 0 && aligned(pointers, V * sizeof(T));
}

template <class T, class ShapeOf, int kUp, int kDown, class Launch>
void run_fir(const Launch& launch, const Maps& x, const Frame& out, const Tensor& taps, double gain, bool flip,
             const Axes& axes, T* y) {
  ShapeOf::choose(in_packs<T>(x, ShapeOf::V, {read<T>(x.tensor), y}), [&](auto v, auto columns) {
    constexpr int V = v, X = columns;
    const auto pass =
        make_fir_pass<T>(x, out, taps, gain, flip, kUp, axes.x.pad, axes.y.pad, V, X, kMostFirRows, launch.fill);
    const Store<T, V, X> finish{y, out, whole_columns<T>(out, pass.params.ax.shift, X, {y})};
    launch(FirBody<T, V, X, kUp, kDown, Store<T, V, X>>{pass.params, pass.work, finish}, pass.work.total);
  });
}

template <class T, class Launch>
void run_resample(const Launch& launch, const Maps& x, const Frame& out, const Tensor& taps, double gain, bool flip,
                  const Axes& axes, bool separable, T* y) {
  using Lanes = Shape<kWhole<T>, 1, 1>;
  Lanes::choose(in_packs<T>(x, Lanes::V, {read<T>(x.tensor), y}), [&](auto v, auto) {
    constexpr int V = v;
    const int64_t planes = x.nhwc ? x.N : x.N * x.C, packs = x.nhwc ? x.C / V : 1;
    const Work work = make_work(planes, packs, out.W, out.H, 1, 1);
    const ResampleBody<T, V> body{read<T>(x.tensor), y,      read<Acc<T>>(taps), static_cast<Acc<T>>(gain),
                                  flip,              separable, axes.x,          axes.y,
                                  frame_of(x),       out,    work};
    launch(body, work.total);
  });
}

template <class Launch>
Tensor upfirdn2d_with(const Launch& launch, const Tensor& x, const Tensor& f, const std::vector<int64_t>& up,
                      const std::vector<int64_t>& down, const std::vector<int64_t>& pad, bool flip, double gain) {
  check_device(x, {f});
  const Maps maps = as_maps(x);
  const Axes axes = make_axes(maps, f, up, down, pad);
  Tensor y = new_tensor(x, {maps.N, maps.C, axes.y.out, axes.x.out}, x.scalar_type(), maps.nhwc);
  if (y.numel() == 0) return y;
  const Frame out = {maps.C, static_cast<int32_t>(axes.y.out), static_cast<int32_t>(axes.x.out), maps.nhwc};
  const Tensor taps = as_parameter(f, x.scalar_type(), f.numel(), "f");
  const bool square = f.dim() == 1 && f.numel() == kFirTaps && up[0] == up[1] && down[0] == down[1];
  dispatch(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    T* to = write<T>(y);
    if (square && up[0] == 1 && down[0] == 1) {
      run_fir<T, FilterShape<T>, 1, 1>(launch, maps, out, taps, gain, flip, axes, to);
    } else if (square && up[0] == 2 && down[0] == 1) {
      run_fir<T, UpShape<T>, 2, 1>(launch, maps, out, taps, gain, flip, axes, to);
    } else if (square && up[0] == 1 && down[0] == 2) {
      run_fir<T, DownShape<T>, 1, 2>(launch, maps, out, taps, gain, flip, axes, to);
    } else {
      run_resample<T>(launch, maps, out, taps, gain, flip, axes, f.dim() == 1, to);
    }
  });
  return y;
}

}  // namespace rtil
