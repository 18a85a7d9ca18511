// A pass over maps without a filter: a thread walks over groups of X neighbouring pixels of V channels and hands them
// to `Finish`, which sees one row of H W columns. Neighbouring threads read neighbouring memory at every step.
#pragma once

#include "pack.h"

namespace rtil {

template <class T_, int V, int X, class Finish>
struct PlainBody {
  using T = T_;
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;

  const T* x;
  Frame flat;  // one row
  Work work;   // groups: threads that share a plane's pixels, rows: groups of pixels for each
  uint32_t span, pixel_groups;
  bool whole;
  Finish finish;

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint32_t id = block * kThreads + thread;
    if (id >= work.total) return;
    const Share share = share_of<V>(work, flat, id);
    const uint32_t first = share.group / span * span * work.rows + share.group % span;
    const T* map = x + flat.origin(share.spot);
    Pack<T, V> raw[X] = {};
    load(map, first, raw);
    auto state = finish.begin(share.spot);
    for (uint32_t i = 0; i < work.rows; ++i) {
      const uint32_t group = first + i * span;
      if (group >= pixel_groups) break;
      A u[X][V];
      RTIL_UNROLL
      for (int o = 0; o < X; ++o) {
        RTIL_UNROLL
        for (int v = 0; v < V; ++v) u[o][v] = raw[o].get(v);
      }
      if (i + 1 < work.rows) load(map, group + span, raw);
      finish.emit(state, 0, static_cast<int32_t>(group) * X, u);
    }
    finish.end(state, share.spot, share.group);
  }

 private:
  RTIL_HD void load(const T* map, uint32_t group, Pack<T, V> (&raw)[X]) const {
    if (group >= pixel_groups) return;
    const int32_t pixel = static_cast<int32_t>(group) * X;
    load_columns(map + pixel * flat.inner(), flat.inner(), flat.template columns<X>(pixel), whole, raw);
  }
};

}  // namespace rtil
