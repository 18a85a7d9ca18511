// Geometry and filter of an upfirdn2d; the same for the CPU and CUDA.
#pragma once

#include "tensors.h"

namespace rtil {

constexpr int kMostTaps = 64;

// One axis: output o is the sum over taps k, k = start (mod up), of tap[k] * in[(o * down - pad + k) / up].
struct Axis {
  int64_t in, out, up, down, pad, taps;

  struct First {
    int64_t tap, index;
  };

  RTIL_HD First first(int64_t o) const {
    const int64_t start = o * down - pad;
    const int64_t tap = ((-start) % up + up) % up;
    return {tap, (start + tap) / up};
  }
};

inline Axis make_axis(int64_t in, int64_t up, int64_t down, int64_t pad0, int64_t pad1, int64_t taps) {
  STD_TORCH_CHECK(up >= 1 && down >= 1, "upfirdn2d: up and down must be positive, got ", up, " and ", down);
  STD_TORCH_CHECK(taps <= kMostTaps, "upfirdn2d: a filter has at most ", kMostTaps, " taps an axis, got ", taps);
  const int64_t room = in * up + pad0 + pad1 - taps + down;
  STD_TORCH_CHECK(room >= down, "upfirdn2d: ", taps, " taps on ", in, " samples leave nothing");
  return {in, room / down, up, down, pad0, taps};
}

struct Axes {
  Axis x, y;
};

inline Axes make_axes(const Maps& x, const Tensor& f, const std::vector<int64_t>& up, const std::vector<int64_t>& down,
                      const std::vector<int64_t>& pad) {
  STD_TORCH_CHECK(f.dim() == 1 || f.dim() == 2, "upfirdn2d: the filter is [fh, fw] or [k]");
  STD_TORCH_CHECK(up.size() == 2 && down.size() == 2 && pad.size() == 4, "upfirdn2d: up (x, y), down (x, y), pad of 4");
  const int64_t fh = f.size(0), fw = f.size(f.dim() - 1);
  return {make_axis(x.W, up[0], down[0], pad[0], pad[1], fw), make_axis(x.H, up[1], down[1], pad[2], pad[3], fh)};
}

// Defined in cpu/upfirdn2d.cpp; the styled tail filters by it where the filter has not four taps.
Tensor upfirdn2d_cpu(const Tensor& x, const Tensor& f, const std::vector<int64_t>& up, const std::vector<int64_t>& down,
                     const std::vector<int64_t>& pad, bool flip, double gain);

}  // namespace rtil
