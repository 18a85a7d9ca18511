// upfirdn2d with any filter and factors: a thread makes one pixel of V channels.
#pragma once

#include "pack.h"
#include "upfirdn2d.h"

namespace rtil {

template <class T_, int V>
struct ResampleBody {
  using T = T_;
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;

  const T* x;
  T* y;
  const A* taps;
  A gain;
  bool flip, separable;
  Axis ax, ay;
  Frame in, out;
  Work work;  // a group is a column, a strip is a row

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint32_t id = block * kThreads + thread;
    if (id >= work.total) return;
    const Share share = share_of<V>(work, out, id);
    const Axis::First left = ax.first(share.group), top = ay.first(share.strip);
    const T* map = x + in.origin(share.spot);
    A sum[1][V] = {};
    int64_t row = top.index;
    for (int64_t ky = top.tap; ky < ay.taps; ky += ay.up, ++row) {
      if (row < 0 || row >= ay.in) continue;
      int64_t column = left.index;
      for (int64_t kx = left.tap; kx < ax.taps; kx += ax.up, ++column) {
        if (column < 0 || column >= ax.in) continue;
        const Pack<T, V> pack = load_pack<V>(map + (row * ax.in + column) * in.inner());
        const A w = weight(ky, kx);
        RTIL_UNROLL
        for (int v = 0; v < V; ++v) sum[0][v] = madd(w, pack.get(v), sum[0][v]);
      }
    }
    T* to = y + out.origin(share.spot) + (static_cast<int64_t>(share.strip) * out.W + share.group) * out.inner();
    store_columns<T>(to, 0, 1u, false, sum);
  }

 private:
  RTIL_HD A weight(int64_t ky, int64_t kx) const {
    const int64_t row = flip ? ky : ay.taps - 1 - ky, column = flip ? kx : ax.taps - 1 - kx;
    return gain * (separable ? taps[row] * taps[column] : taps[row * ax.taps + column]);
  }
};

}  // namespace rtil
