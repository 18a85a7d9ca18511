// Four-tap separable filtering with nothing between the threads: a thread walks down a strip of rows, keeps the
// horizontally filtered rows that it still needs in registers, and hands every row of results to `Finish`.
//
// The loads of the next row are issued before the arithmetic of this one.
#pragma once

#include "pack.h"

namespace rtil {

constexpr int kFirTaps = 4;

// One axis. Step s makes the outputs up * s - shift, ... from the inputs first + down * s, ...
struct FirAxis {
  int32_t first, shift;
};

// up 2: a step begins where the second tap is the first to meet a sample, so that two inputs make two outputs.
inline FirAxis fir_axis(int64_t up, int64_t pad) {
  if (up == 1) return {static_cast<int32_t>(-pad), 0};
  const int64_t shift = (pad & 1) ? 0 : 1;
  return {static_cast<int32_t>((1 - shift - pad) / 2), static_cast<int32_t>(shift)};
}

template <int kUp, int kDown>
struct FirPhase {
  static constexpr int inputs(int outputs) { return kUp == 2 ? outputs / 2 + 1 : kDown * (outputs - 1) + kFirTaps; }

  // Tap of input i in output o, or none.
  RTIL_HD static constexpr int tap(int i, int o) {
    const int k = kUp == 2 ? 2 * (i - o / 2) + (o % 2 == 0 ? 1 : 0) : i - kDown * o;
    const bool met = kUp == 2 ? (i - o / 2 == 0 || i - o / 2 == 1) : (k >= 0 && k < kFirTaps);
    return met ? k : -1;
  }
};

template <class T>
struct FirParams {
  const T* x;
  const Acc<T>* taps;
  Acc<T> gain;
  bool flip;
  Frame in;
  FirAxis ax, ay;
  uint32_t steps;  // of the vertical axis
};

template <class T_, int V, int X, int kUp, int kDown, class Finish>
struct FirBody {
  using T = T_;
  using A = Acc<T>;
  using Phase = FirPhase<kUp, kDown>;
  static constexpr int kWide = Phase::inputs(X), kHigh = Phase::inputs(kUp), kNew = kDown;
  static constexpr int kBlocks = Finish::kBlocks;
  static_assert(kUp == 1 || X % 2 == 0);

  FirParams<T> fir;
  Work work;
  Finish finish;

  RTIL_HD void operator()(uint32_t block, uint32_t thread) const {
    const uint32_t id = block * kThreads + thread;
    if (id >= work.total) return;
    const Share share = share_of<V>(work, fir.in, id);
    A wx[kFirTaps], wy[kFirTaps];
    RTIL_UNROLL
    for (int k = 0; k < kFirTaps; ++k) {
      wx[k] = fir.taps[fir.flip ? k : kFirTaps - 1 - k];
      wy[k] = wx[k] * fir.gain;
    }
    const int32_t out_x = static_cast<int32_t>(share.group) * X - fir.ax.shift;
    const int32_t in_x = fir.ax.first + static_cast<int32_t>(share.group) * (X * kDown / kUp);
    const uint32_t mask = fir.in.template columns<kWide>(in_x);
    const int64_t inner = fir.in.inner();
    const T* column = fir.x + (fir.in.origin(share.spot) + in_x * inner);

    const uint32_t begin = share.strip * work.rows;
    const uint32_t end = begin + work.rows < fir.steps ? begin + work.rows : fir.steps;
    int32_t in_y = fir.ay.first + static_cast<int32_t>(begin) * kDown;
    Pack<T, V> raw[kNew][kWide];
    A ring[kHigh][X][V];
    RTIL_UNROLL
    for (int k = 0; k < kHigh - kNew; ++k) {
      load(column, in_y + k, inner, mask, raw[0]);
      filter_row(wx, raw[0], ring[kNew + k]);
    }
    in_y += kHigh - kNew;
    RTIL_UNROLL
    for (int k = 0; k < kNew; ++k) load(column, in_y + k, inner, mask, raw[k]);

    auto state = finish.begin(share.spot);
    for (uint32_t step = begin; step < end; ++step) {
      RTIL_UNROLL
      for (int k = 0; k + kNew < kHigh; ++k) copy_row(ring[k + kNew], ring[k]);
      RTIL_UNROLL
      for (int k = 0; k < kNew; ++k) filter_row(wx, raw[k], ring[kHigh - kNew + k]);
      in_y += kNew;
      if (step + 1 < end) {
        RTIL_UNROLL
        for (int k = 0; k < kNew; ++k) load(column, in_y + k, inner, mask, raw[k]);
      }
      RTIL_UNROLL
      for (int r = 0; r < kUp; ++r) {
        A u[X][V];
        sum_rows(wy, ring, r, u);
        finish.emit(state, static_cast<int32_t>(step) * kUp - fir.ay.shift + r, out_x, u);
      }
    }
    finish.end(state, share.spot, share.strip * work.groups + share.group);
  }

 private:
  RTIL_HD void load(const T* column, int32_t y, int64_t inner, uint32_t mask, Pack<T, V> (&raw)[kWide]) const {
    const int64_t row = static_cast<int64_t>(y) * fir.in.W * inner;
    load_columns(column + row, inner, fir.in.inside(y) ? mask : 0u, false, raw);
  }

  RTIL_HD static void copy_row(const A (&from)[X][V], A (&to)[X][V]) {
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) to[o][v] = from[o][v];
    }
  }

  RTIL_HD static void filter_row(const A (&w)[kFirTaps], const Pack<T, V> (&raw)[kWide], A (&out)[X][V]) {
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) out[o][v] = 0;
    }
    RTIL_UNROLL
    for (int i = 0; i < kWide; ++i) {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) {
        const A value = raw[i].get(v);
        RTIL_UNROLL
        for (int o = 0; o < X; ++o) {
          const int tap = Phase::tap(i, o);
          if (tap >= 0) out[o][v] = madd(w[tap >= 0 ? tap : 0], value, out[o][v]);
        }
      }
    }
  }

  RTIL_HD static void sum_rows(const A (&w)[kFirTaps], const A (&ring)[kHigh][X][V], int r, A (&u)[X][V]) {
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) {
        A sum = 0;
        RTIL_UNROLL
        for (int i = 0; i < kHigh; ++i) {
          const int tap = Phase::tap(i, r);
          if (tap >= 0) sum = madd(w[tap >= 0 ? tap : 0], ring[i][o][v], sum);
        }
        u[o][v] = sum;
      }
    }
  }
};

// Stores the results as they are.
template <class T, int V, int X>
struct Store {
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;
  T* y;
  Frame out;
  bool whole;  // every group of columns may be stored at once

  struct State {
    int64_t origin;
  };

  RTIL_HD State begin(Spot spot) const { return {out.origin(spot)}; }

  RTIL_HD void emit(const State& state, int32_t row, int32_t column, const A (&u)[X][V]) const {
    if (!out.inside(row)) return;
    const int64_t pixel = static_cast<int64_t>(row) * out.W + column;
    store_columns<T>(y + (state.origin + pixel * out.inner()), out.inner(), out.template columns<X>(column), whole, u);
  }

  RTIL_HD void end(const State&, Spot, uint32_t) const {}
};

}  // namespace rtil
