// The styled tail's arithmetic behind a pass over maps (fir_body.h, plain_body.h): what happens to the X columns of V
// channels of u that a thread has made. Forward and gradient share `Tail`, so that they agree on every sign.
#pragma once

#include "counter_body.h"
#include "tail.h"

namespace rtil {

template <class T, int V>
struct Tail {
  using A = Acc<T>;
  TailPointers<A> p;
  Frame out;
  bool whole;        // every group of columns may be moved at once
  bool whole_noise;  // likewise of the noise

  // What a thread needs for all its pixels.
  struct Channels {
    A d[V], b[V], strength;
    const A* noise;
    int64_t origin;
  };

  RTIL_HD Channels channels(Spot spot) const {
    Channels at;
    load_values(p.b + spot.c, at.b);
    if (p.d) {
      load_values(p.d + spot.n * out.C + spot.c, at.d);
    } else {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) at.d[v] = 1;
    }
    at.strength = p.strength ? *p.strength : A(0);
    at.noise = p.strength ? p.noise + spot.n * p.noise_stride : nullptr;
    at.origin = out.origin(spot);
    return at;
  }

  template <int X>
  RTIL_HD void noise(const Channels& at, int64_t pixel, uint32_t mask, A (&values)[X]) const {
    if (at.noise && whole_noise) return load_values(at.noise + pixel, values);
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      values[o] = at.noise && (mask >> o & 1u) ? load_pack<1>(at.noise + pixel + o).v[0] : A(0);
    }
  }
};

enum class ZSource { kNone, kTensor, kDrawn };

template <class T, int V, int X, ZSource kZ>
struct TailForward {
  using A = Acc<T>;
  static constexpr int kBlocks = kUsualBlocks;
  Tail<T, V> tail;
  const T* z1;
  const A* sigma;
  Key z1_key;
  T* y;

  struct State : Tail<T, V>::Channels {
    A sigma;
    uint32_t channel;
  };

  RTIL_HD State begin(Spot spot) const {
    return {tail.channels(spot), kZ == ZSource::kDrawn ? sigma[spot.n] : A(0), static_cast<uint32_t>(spot.c)};
  }

  RTIL_HD void emit(const State& state, int32_t row, int32_t column, const A (&u)[X][V]) const {
    if (!tail.out.inside(row)) return;
    const uint32_t mask = tail.out.template columns<X>(column);
    const int64_t pixel = static_cast<int64_t>(row) * tail.out.W + column, inner = tail.out.inner();
    const int64_t at = state.origin + pixel * inner;
    Pack<T, V> z[X];
    if constexpr (kZ == ZSource::kTensor) load_columns(z1 + at, inner, mask, tail.whole, z);
    A noise[X], values[X][V];
    tail.noise(state, pixel, mask, noise);
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) {
        const A pre = pre_activation(u[o][v], state.d[v], state.strength, noise[o], state.b[v]);
        values[o][v] = tail.p.gain * leaky_relu(pre, tail.p.slope);
        if constexpr (kZ == ZSource::kTensor) values[o][v] += z[o].get(v);
      }
    }
    if constexpr (kZ == ZSource::kDrawn) {
      if (state.sigma != 0) add_drawn(state, pixel, values);
    }
    store_columns<T>(y + at, inner, mask, tail.whole, values);
  }

  RTIL_HD void end(const State&, Spot, uint32_t) const {}

 private:
  RTIL_HD void add_drawn(const State& state, int64_t pixel, A (&values)[X][V]) const {
    constexpr int kAtOnce = X < 4 ? X : 4;
    static_assert(X % kAtOnce == 0);
    // of the map in the order N C H W
    const int64_t plane = state.origin + (tail.out.nhwc ? state.channel * (tail.out.pixels() - 1) : 0);
    RTIL_UNROLL
    for (int v = 0; v < V; ++v) {
      const uint64_t start = static_cast<uint64_t>(plane + v * tail.out.pixels() + pixel);
      RTIL_UNROLL
      for (int o = 0; o < X; o += kAtOnce) {
        const Pack<float, 4> drawn = normals_at(z1_key, start + o);
        RTIL_UNROLL
        for (int k = 0; k < kAtOnce; ++k) {
          values[o + k][v] = madd(state.sigma, static_cast<A>(drawn.v[k]), values[o + k][v]);
        }
      }
    }
  }
};

// Sums are left in parts, one for every thread that shares a plane: NHWC [N, parts, C], NCHW [N, C, parts]. A thread
// adds up gradient times noise over all its channels: NHWC [N, parts, C / V].
template <class T, int V, int X>
struct TailGradient {
  using A = Acc<T>;
  static constexpr int kBlocks = 3;  // sums and gradients want registers beside the filter's
  Tail<T, V> tail;
  const T* g;
  T* h;
  A *sum_gu, *sum_g;
  A* sum_gn;  // or null
  A* sum_c;   // NHWC [N, H, W, C / V], NCHW [N, C, H, W], or null
  int64_t parts;

  struct State : Tail<T, V>::Channels {
    A gu[V], gs[V], gn;
  };

  RTIL_HD State begin(Spot spot) const {
    return {tail.channels(spot), {}, {}, A(0)};
  }

  RTIL_HD void emit(State& state, int32_t row, int32_t column, const A (&u)[X][V]) const {
    if (!tail.out.inside(row)) return;
    const uint32_t mask = tail.out.template columns<X>(column);
    const int64_t pixel = static_cast<int64_t>(row) * tail.out.W + column, inner = tail.out.inner();
    const int64_t at = state.origin + pixel * inner;
    Pack<T, V> gradient[X];
    load_columns(g + at, inner, mask, tail.whole, gradient);
    const A gain = tail.p.gain, below = tail.p.gain * tail.p.slope;
    A noise[X], values[X][V];
    tail.noise(state, pixel, mask, noise);
    RTIL_UNROLL
    for (int o = 0; o < X; ++o) {
      A total = 0;
      const bool exists = mask >> o & 1u;
      RTIL_UNROLL
      for (int v = 0; v < V; ++v) {
        const A pre = pre_activation(u[o][v], state.d[v], state.strength, noise[o], state.b[v]);
        const A gp = gradient[o].get(v) * (pre > 0 ? gain : below);
        values[o][v] = gp * state.d[v];
        state.gu[v] = exists ? madd(gp, u[o][v], state.gu[v]) : state.gu[v];
        state.gs[v] += gp;
        state.gn = madd(gp, noise[o], state.gn);
        total += gp;
      }
      if (sum_c && exists) store_one(sum_c + state.origin / V + (pixel + o) * packs(), total);
    }
    store_columns<T>(h + at, inner, mask, tail.whole, values);
  }

  RTIL_HD void end(const State& state, Spot spot, uint32_t part) const {
    if (tail.out.nhwc) {
      const int64_t at = (spot.n * parts + part) * tail.out.C + spot.c;
      store_values(sum_gu + at, state.gu);
      store_values(sum_g + at, state.gs);
      if (sum_gn) store_one(sum_gn + (spot.n * parts + part) * packs() + spot.c / V, state.gn);
    } else {
      const int64_t at = (spot.n * tail.out.C + spot.c) * parts + part;
      store_one(sum_gu + at, state.gu[0]);
      store_one(sum_g + at, state.gs[0]);
      if (sum_gn) store_one(sum_gn + at, state.gn);
    }
  }

 private:
  RTIL_HD int64_t packs() const { return tail.out.nhwc ? tail.out.C / V : 1; }  // of a pixel
};

}  // namespace rtil
