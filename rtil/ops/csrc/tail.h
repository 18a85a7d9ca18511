// Arguments of the styled tail, for the CPU kernels and the CUDA bodies alike.
#pragma once

#include <tuple>

#include "counter.h"
#include "tensors.h"

namespace rtil {

// Null pointers stand for what is absent.
template <class A>
struct TailPointers {
  const A* d;         // [N, C]
  const A* noise;     // [N or 1, H, W]
  const A* strength;  // scalar
  const A* b;         // [C]
  int64_t noise_stride;
  Key noise_key;  // of noise that is drawn: strength without noise
  A slope, gain;
};

// What the tail's gradient returns, as the schema names it: h and sums of g times the activation's slope.
using TailSums = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Keeps alive what TailPointers points to.
struct RTIL_LOCAL TailTensors {
  MaybeTensor d, noise, strength;
  Tensor b;
  int64_t noise_stride;

  TailTensors(const Maps& x, int64_t H, int64_t W, const MaybeTensor& d_, const MaybeTensor& noise_,
              const MaybeTensor& strength_, const Tensor& b_)
      : d(as_parameter(d_, x.tensor.scalar_type(), x.N * x.C, "d")),
        strength(as_parameter(strength_, x.tensor.scalar_type(), 1, "strength")),
        b(as_parameter(b_, x.tensor.scalar_type(), x.C, "b")),
        noise_stride(0) {
    if (!strength || !noise_) return;
    const bool per_sample = noise_->numel() != H * W;
    noise = as_parameter(noise_, x.tensor.scalar_type(), (per_sample ? x.N : 1) * H * W, "noise");
    noise_stride = per_sample ? H * W : 0;
  }

  template <class A>
  TailPointers<A> pointers(int64_t noise_key, double slope, double gain) const {
    return {read_or_null<A>(d), read_or_null<A>(noise), read_or_null<A>(strength), read<A>(b), noise_stride,
            make_key(noise_key), static_cast<A>(slope), static_cast<A>(gain)};
  }
};

constexpr int kTailTaps = 4;       // of the FIR that runs inside the tail; others run before it
constexpr double kTailGain = 4.0;  // of that FIR: the up-convolution has inserted zeros
constexpr int kTailPad = 1;

inline int64_t tail_size(int64_t size, bool fir) { return fir ? size + 2 * kTailPad - kTailTaps + 1 : size; }

}  // namespace rtil
