// The tail of a styled convolution on the CPU, forward and gradient, in one pass over the map: FIR (strips.h),
// demodulation, noise, bias, activation and z1 happen in registers.
#include "../tail.h"

#include <numeric>
#include <vector>

#include "normals.h"
#include "strips.h"

namespace rtil {
namespace {

struct Geometry {
  int64_t N, C, H, W, in_h, in_w;
  bool nhwc;
};

// The tail's arguments with something to read behind every pointer.
template <class A>
struct Arguments {
  TailPointers<A> p;
  A strength;
  int64_t d_stride;
  std::vector<A> ones, drawn;

  Arguments(const Geometry& geo, const TailPointers<A>& pointers)
      : p(pointers), strength(p.strength ? *p.strength : A(0)), d_stride(p.d ? geo.C : 0) {
    if (!p.d) {
      ones.assign(geo.C, A(1));
      p.d = ones.data();
    }
    if (p.noise) return;
    const int64_t map = geo.H * geo.W;
    drawn.assign(p.strength ? geo.N * map : map, A(0));
    p.noise = drawn.data();
    p.noise_stride = p.strength ? map : 0;
    if (!p.strength) return;
    parallel_tasks(geo.N * geo.H, geo.W, [&](int64_t begin, int64_t end) {
      normal_run<A>(p.noise_key, begin * geo.W, (end - begin) * geo.W, A(1), drawn.data() + begin * geo.W);
    });
  }
};

// Both layouts: what is common to all strips and pixels.
template <class T, bool kFir>
struct Tail {
  using A = Acc<T>;
  using L = Lanes<A>;

  Tail(const Geometry& g, const T* map, const double* fir, const TailPointers<A>& pointers)
      : geo(g), args(g, pointers), x(map) {
    for (int k = 0; kFir && k < kTailTaps; ++k) {
      horizontal[k] = static_cast<A>(fir[kTailTaps - 1 - k]);
      vertical[k] = static_cast<A>(fir[kTailTaps - 1 - k] * kTailGain);
    }
  }

  const A* d(int64_t n) const { return args.p.d + n * args.d_stride; }
  const A* noise(int64_t n) const { return args.p.noise + n * args.p.noise_stride; }

  // NCHW planes without a filter are cut into rows of one register.
  int64_t columns() const { return kFir ? geo.W : kLanes<A>; }
  int64_t rows() const { return kFir ? geo.H : (geo.H * geo.W + kLanes<A> - 1) / kLanes<A>; }

  // NCHW: emit(row, u, noise, pre) for the columns from `lane` on of the rows [begin, end) of a channel.
  template <class M, class Emit>
  RTIL_HD void strip(int64_t n, int64_t c, int64_t lane, int64_t begin, int64_t end, M lanes, const Emit& emit) const {
    const int64_t plane = n * geo.C + c;
    const L strength = splat<A>(args.strength), demodulation = splat<A>(d(n)[c]), bias = splat<A>(args.p.b[c]);
    const A* pixels = noise(n) + lane;
    const auto finish = [&](int64_t y, L u) __attribute__((always_inline)) {
      const L drawn = load<A>(pixels + y * columns(), lanes);
      emit(y, u, drawn, fma<A>(u, demodulation, fma<A>(strength, drawn, bias)));
    };
    if constexpr (kFir) {
      Cross<T, kTailTaps, Some> cross;
      for (int k = 0; k < kTailTaps; ++k) {
        const int64_t first = lane - kTailPad + k;
        cross.p[k] = x + plane * geo.in_h * geo.in_w + first;
        cross.w[k] = horizontal[k];
        cross.lanes[k] = lanes_inside<A>(first, geo.in_w, std::min<int64_t>(kLanes<A>, geo.W - lane));
      }
      cross.stride = geo.in_w;
      walk(cross, geo.in_h, kTailPad, vertical, begin, end, finish);
    } else {
      const T* map = x + plane * geo.H * geo.W + lane;
      for (int64_t y = begin; y < end; ++y) finish(y, load<A>(map + y * columns(), lanes));
    }
  }

  // NHWC: f(pixel, count, u) for the runs of pixels in rows [y0, y1).
  template <class F>
  void runs(RowSums<T>& sums, int64_t n, int64_t y0, int64_t y1, const F& f) const {
    if constexpr (kFir) {
      for (int64_t x0 = 0; x0 < geo.W; x0 += sums.tile()) {
        const int64_t x1 = std::min(geo.W, x0 + sums.tile());
        sums.fill(x + n * geo.in_h * geo.in_w * geo.C, y0, y1 - y0, x0, x1);
        for (int64_t y = y0; y < y1; ++y) {
          f(y * geo.W + x0, x1 - x0, Filtered<A>(sums.at(y - y0, 0), geo.C, horizontal));
        }
      }
    } else {
      f(y0 * geo.W, (y1 - y0) * geo.W, Plain<T>{x + (n * geo.H + y0) * geo.W * geo.C, geo.C});
    }
  }

  RowSums<T> row_sums() const { return {geo.in_h, kFir ? geo.in_w : 0, geo.C, kTailPad, kTailPad, vertical}; }

  Geometry geo;
  Arguments<A> args;
  const T* x;
  A horizontal[kTailTaps], vertical[kTailTaps];
};

// Calls f(lane, begin, end, lanes) for the strips that cover rows [y0, y1) of an NCHW plane.
template <class T, bool kFir, class F>
void over_columns(const Tail<T, kFir>& tail, int64_t y0, int64_t y1, const F& f) {
  using A = Acc<T>;
  if constexpr (kFir) {
    over_lanes<A>(tail.geo.W, [&](int64_t lane, auto lanes) { f(lane, y0, y1, lanes); });
  } else {
    const int64_t full = tail.geo.H * tail.geo.W / kLanes<A>, rest = tail.geo.H * tail.geo.W % kLanes<A>;
    f(0, y0, std::min(y1, full), All{});
    if (y1 > full) f(0, full, y1, Some{0, static_cast<int>(rest)});
  }
}

// z1 as a tensor, drawn with standard deviation sigma [N], or absent.
template <class T>
struct ZPointers {
  const T* tensor;
  const Acc<T>* sigma;
  Key key;
};

template <class T>
struct TensorZ {
  const T* z;
  Acc<T> scale;

  void advance(int64_t elements) { z += elements; }

  template <class M>
  RTIL_HD Lanes<Acc<T>> add(int64_t i, Lanes<Acc<T>> v, M lanes) const {
    return fma<Acc<T>>(splat<Acc<T>>(scale), load<Acc<T>>(z + i, lanes), v);
  }
};

struct NoZ {
  void advance(int64_t) {}

  template <class L, class M>
  RTIL_HD L add(int64_t, L v, M) const {
    return v;
  }
};

template <class A>
RTIL_HD Lanes<A> activate(Lanes<A> pre, Lanes<A> slope, Lanes<A> gain) {
  return gain * (pre > 0 ? pre : slope * pre);
}

// A run of NHWC pixels. Apart, so that the registers of the innermost loop suffice.
template <class T, class U, class Z>
RTIL_APART void forward_run(U u, int64_t C, int64_t pixels, const Acc<T>* d, const Acc<T>* b, Acc<T> strength,
                            const Acc<T>* noise, Acc<T> slope, Acc<T> gain, Z z, T* out) {
  using A = Acc<T>;
  using L = Lanes<A>;
  const L strengths = splat<A>(strength), slopes = splat<A>(slope), gains = splat<A>(gain);
  over_groups<2>(pixels, [&](auto group, int64_t i) __attribute__((always_inline)) {
    constexpr int P = decltype(group)::value;
    L shift[P];
    for (int p = 0; p < P; ++p) shift[p] = splat<A>(noise[i + p]);
    over_lanes<A>(C, [&](int64_t lane, auto lanes) __attribute__((always_inline)) {
      const L demodulation = load<A>(d + lane, lanes), bias = load<A>(b + lane, lanes);
      L values[P];
      u.get(lane, lanes, values);
      RTIL_UNROLL
      for (int p = 0; p < P; ++p) {
        const L pre = fma<A>(values[p], demodulation, fma<A>(strengths, shift[p], bias));
        const int64_t at = p * C + lane;
        store<T>(out + at, z.add(at, activate<A>(pre, slopes, gains), lanes), lanes);
      }
    });
    u.advance(P);
    z.advance(P * C);
    out += P * C;
  });
}

template <class T, bool kFir, class Z>
void forward_rows(const Tail<T, kFir>& tail, RowSums<T>& sums, int64_t n, int64_t y0, int64_t y1, Z z, T* out) {
  const Geometry& geo = tail.geo;
  const auto& args = tail.args;
  tail.runs(sums, n, y0, y1, [&](int64_t pixel, int64_t count, auto u) {
    const int64_t at = (n * geo.H * geo.W + pixel) * geo.C;
    Z from = z;
    from.advance(at);
    forward_run<T>(u, geo.C, count, tail.d(n), args.p.b, args.strength, tail.noise(n) + pixel, args.p.slope,
                   args.p.gain, from, out + at);
  });
}

// Rows [y0, y1) of a channel of an NCHW sample.
template <class T, bool kFir, class Z>
void forward_columns(const Tail<T, kFir>& tail, int64_t n, int64_t c, int64_t y0, int64_t y1, Z z, T* out) {
  using A = Acc<T>;
  const int64_t base = (n * tail.geo.C + c) * tail.geo.H * tail.geo.W;
  using L = Lanes<A>;
  const L slope = splat<A>(tail.args.p.slope), gain = splat<A>(tail.args.p.gain);
  over_columns(tail, y0, y1, [&](int64_t lane, int64_t from, int64_t to, auto lanes) {
    tail.strip(n, c, lane, from, to, lanes, [&](int64_t y, L, L, L pre) __attribute__((always_inline)) {
      const int64_t at = base + y * tail.columns() + lane;
      store<T>(out + at, z.add(at, activate<A>(pre, slope, gain), lanes), lanes);
    });
  });
}

constexpr int64_t kBlockPixels = 4096;  // of one channel's plane that are one task

template <class T, bool kFir>
void forward(const Geometry& geo, const T* x, const double* fir, const TailPointers<Acc<T>>& pointers,
             const ZPointers<T>& z1, T* y) {
  using A = Acc<T>;
  const Tail<T, kFir> tail(geo, x, fir, pointers);
  const int64_t map = geo.H * geo.W;
  const int64_t columns = geo.nhwc ? geo.W : tail.columns(), all = geo.nhwc ? geo.H : tail.rows();
  const int64_t rows = std::min<int64_t>(all, geo.nhwc ? kRows : std::max<int64_t>(1, kBlockPixels / columns));
  const int64_t blocks = (all + rows - 1) / rows, inner = geo.nhwc ? geo.C : 1;
  parallel_tasks((geo.nhwc ? geo.N : geo.N * geo.C) * blocks, rows * columns * inner, [&](int64_t begin, int64_t end) {
    Scratch<A> drawn(z1.sigma ? rows * columns * inner : 0);
    RowSums<T> sums = tail.row_sums();
    for (int64_t task = begin; task < end; ++task) {
      const int64_t plane = task / blocks, y0 = task % blocks * rows, y1 = std::min(all, y0 + rows);
      const int64_t n = geo.nhwc ? plane : plane / geo.C, c = geo.nhwc ? 0 : plane % geo.C;
      const auto finish = [&](auto z) {
        if (geo.nhwc) {
          forward_rows(tail, sums, n, y0, y1, z, y);
        } else {
          forward_columns(tail, n, c, y0, y1, z, y);
        }
      };
      if (z1.tensor) {
        finish(TensorZ<T>{z1.tensor, A(1)});
      } else if (z1.sigma && z1.sigma[n] != 0) {
        const int64_t first = y0 * columns, pixels = std::min(map, y1 * columns) - first;
        const uint64_t start = (n * geo.C + c) * map + first;
        if (geo.nhwc) {
          normal_row_nhwc<A>(z1.key, start, map, pixels, geo.C, A(1), drawn.data());
        } else {
          normal_run<A>(z1.key, start, pixels, A(1), drawn.data());
        }
        finish(TensorZ<A>{drawn.data() - (plane * map + first) * inner, z1.sigma[n]});
      } else {
        finish(NoZ{});
      }
    }
  });
}

constexpr int64_t kSumPixels = 512;  // whose gradients are added up one after the other

// Sums of one block of rows of one sample.
template <class A>
struct BlockSums {
  A *gu, *g;  // [C]
  A* gn;      // or null
  A* c;       // [H, W] of the sample, or null
};

// Returns the sum of gradient times noise.
template <class T, class U>
RTIL_APART Acc<T> gradient_run(U u, int64_t C, int64_t pixels, const Acc<T>* d, const Acc<T>* b, Acc<T> strength,
                               const Acc<T>* noise, Acc<T> slope, Acc<T> gain, const T* g, T* h, Acc<T>* sum_gu,
                               Acc<T>* sum_g, Acc<T>* sum_c) {
  using A = Acc<T>;
  using L = Lanes<A>;
  const L strengths = splat<A>(strength), gains = splat<A>(gain), below = splat<A>(gain * slope);
  L gn{};
  over_groups<2>(pixels, [&](auto group, int64_t i) __attribute__((always_inline)) {
    constexpr int P = decltype(group)::value;
    L shift[P], total[P];
    for (int p = 0; p < P; ++p) {
      shift[p] = splat<A>(noise[i + p]);
      total[p] = L{};
    }
    over_lanes<A>(C, [&](int64_t lane, auto lanes) __attribute__((always_inline)) {
      const L demodulation = load<A>(d + lane, lanes), bias = load<A>(b + lane, lanes);
      L gu = load<A>(sum_gu + lane, lanes), gs = load<A>(sum_g + lane, lanes);
      L values[P];
      u.get(lane, lanes, values);
      RTIL_UNROLL
      for (int p = 0; p < P; ++p) {
        const L pre = fma<A>(values[p], demodulation, fma<A>(strengths, shift[p], bias));
        const L gp = load<A>(g + p * C + lane, lanes) * (pre > 0 ? gains : below);
        store<T>(h + p * C + lane, gp * demodulation, lanes);
        gu = fma<A>(gp, values[p], gu);
        gs += gp;
        total[p] += gp;
      }
      store<A>(sum_gu + lane, gu, lanes);
      store<A>(sum_g + lane, gs, lanes);
    });
    for (int p = 0; p < P; ++p) gn = fma<A>(total[p], shift[p], gn);
    for (int p = 0; sum_c && p < P; ++p) sum_c[i + p] = sum_lanes<A>(total[p]);
    u.advance(P);
    g += P * C;
    h += P * C;
  });
  return sum_lanes<A>(gn);
}

template <class T, bool kFir>
void gradient_rows(const Tail<T, kFir>& tail, RowSums<T>& row_sums, int64_t n, int64_t y0, int64_t y1, const T* g, T* h,
                   const BlockSums<Acc<T>>& sums) {
  const Geometry& geo = tail.geo;
  const auto& args = tail.args;
  tail.runs(row_sums, n, y0, y1, [&](int64_t pixel, int64_t count, auto u) {
    const int64_t at = (n * geo.H * geo.W + pixel) * geo.C;
    const Acc<T> gn = gradient_run<T>(u, geo.C, count, tail.d(n), args.p.b, args.strength, tail.noise(n) + pixel,
                                      args.p.slope, args.p.gain, g + at, h + at, sums.gu, sums.g,
                                      sums.c ? sums.c + pixel : nullptr);
    if (sums.gn) *sums.gn += gn;
  });
}

template <class T, bool kFir>
void gradient_columns(const Tail<T, kFir>& tail, int64_t n, int64_t y0, int64_t y1, const T* g, T* h,
                      const BlockSums<Acc<T>>& sums) {
  using A = Acc<T>;
  using L = Lanes<A>;
  const Geometry& geo = tail.geo;
  const L gain = splat<A>(tail.args.p.gain), below = splat<A>(tail.args.p.gain * tail.args.p.slope);
  const int64_t columns = tail.columns(), map = geo.H * geo.W;
  if (sums.c) std::fill(sums.c + y0 * columns, sums.c + std::min(map, y1 * columns), A(0));
  for (int64_t c = 0; c < geo.C; ++c) {
    const L demodulation = splat<A>(tail.d(n)[c]);
    const int64_t base = (n * geo.C + c) * map;
    over_columns(tail, y0, y1, [&](int64_t lane, int64_t from, int64_t to, auto lanes) {
      L gu{}, gs{}, gn{};
      tail.strip(n, c, lane, from, to, lanes, [&](int64_t y, L u, L noise, L pre) __attribute__((always_inline)) {
        const int64_t pixel = y * columns + lane;
        const L gp = load<A>(g + base + pixel, lanes) * (pre > 0 ? gain : below);
        store<T>(h + base + pixel, gp * demodulation, lanes);
        gu = fma<A>(gp, u, gu);
        gs += gp;
        if (sums.gn) gn = fma<A>(gp, noise, gn);
        if (sums.c) store<A>(sums.c + pixel, load<A>(sums.c + pixel, lanes) + gp, lanes);
      });
      sums.gu[c] += sum_lanes<A>(gu);
      sums.g[c] += sum_lanes<A>(gs);
      if (sums.gn) *sums.gn += sum_lanes<A>(gn);
    });
  }
}

// Sums over fixed blocks of rows, added in their order: the result does not depend on the number of threads.
template <class T, bool kFir>
void gradient(const Geometry& geo, const T* g, const T* x, const double* fir, const TailPointers<Acc<T>>& pointers,
              T* h, Acc<T>* sum_gu, Acc<T>* sum_g, Acc<T>* sum_gn, Acc<T>* sum_c) {
  using A = Acc<T>;
  const Tail<T, kFir> tail(geo, x, fir, pointers);
  const int64_t columns = geo.nhwc ? geo.W : tail.columns(), all = geo.nhwc ? geo.H : tail.rows();
  const int64_t rows = std::clamp<int64_t>(kSumPixels / columns, std::min<int64_t>(kRows, all), all);
  const int64_t blocks = (all + rows - 1) / rows;
  std::vector<A> partial_gu(geo.N * blocks * geo.C), partial_g(partial_gu.size()), partial_gn(geo.N * blocks);
  parallel_tasks(geo.N * blocks, rows * columns * geo.C, [&](int64_t begin, int64_t end) {
    RowSums<T> row_sums = tail.row_sums();
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks, y0 = task % blocks * rows, y1 = std::min(all, y0 + rows);
      const BlockSums<A> sums{partial_gu.data() + task * geo.C, partial_g.data() + task * geo.C,
                              sum_gn ? partial_gn.data() + task : nullptr,
                              sum_c ? sum_c + n * geo.H * geo.W : nullptr};
      if (!geo.nhwc) {
        gradient_columns(tail, n, y0, y1, g, h, sums);
        continue;
      }
      for (int64_t y = y0; y < y1; y += kRows) {
        gradient_rows(tail, row_sums, n, y, std::min<int64_t>(y1, y + kRows), g, h, sums);
      }
    }
  });
  for (int64_t n = 0; n < geo.N; ++n) {
    for (int64_t c = 0; c < geo.C; ++c) sum_gu[n * geo.C + c] = sum_g[n * geo.C + c] = 0;
    for (int64_t block = n * blocks; block < (n + 1) * blocks; ++block) {
      for (int64_t c = 0; c < geo.C; ++c) {
        sum_gu[n * geo.C + c] += partial_gu[block * geo.C + c];
        sum_g[n * geo.C + c] += partial_g[block * geo.C + c];
      }
    }
  }
  if (sum_gn) *sum_gn = static_cast<A>(std::accumulate(partial_gn.begin(), partial_gn.end(), 0.0));
}

// The map that enters the tail and the FIR that is left to do there.
struct Prepared {
  Maps maps;
  std::vector<double> fir;
  Geometry geo;
};

Prepared prepare(const Tensor& x, const MaybeTensor& fir) {
  Maps maps = as_maps(x);
  std::vector<double> taps;
  if (fir) {
    STD_TORCH_CHECK(fir->dim() == 1, "styled_tail: fir has the taps [k] of a separable filter");
    const int64_t k = fir->numel(), before = (k - 1) / 2, after = (k - 2) / 2;
    if (k == kTailTaps) {
      const Tensor exact = dense(with_type(*fir, ScalarType::Double), false);
      taps.assign(read<double>(exact), read<double>(exact) + k);
    } else {
      maps = as_maps(upfirdn2d_cpu(x, *fir, {1, 1}, {1, 1}, {before, after, before, after}, false, kTailGain));
    }
  }
  const int64_t H = tail_size(maps.H, !taps.empty()), W = tail_size(maps.W, !taps.empty());
  STD_TORCH_CHECK(H >= 1 && W >= 1, "styled_tail: a map of ", maps.H, " x ", maps.W, " is smaller than its filter");
  return {maps, taps, {maps.N, maps.C, H, W, maps.H, maps.W, maps.nhwc}};
}

Tensor styled_tail_cpu(const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d, const MaybeTensor& noise,
                       const MaybeTensor& strength, const Tensor& b, const MaybeTensor& z1, const MaybeTensor& sigma,
                       int64_t noise_key, int64_t z1_key, double slope, double gain) {
  const Prepared in = prepare(x, fir);
  const Geometry& geo = in.geo;
  const ScalarType type = x.scalar_type();
  const TailTensors tail(in.maps, geo.H, geo.W, d, noise, strength, b);
  const MaybeTensor deviations = as_parameter(sigma, type, geo.N, "sigma");
  MaybeTensor z;
  if (z1) {
    STD_TORCH_CHECK(z1->numel() == geo.N * geo.C * geo.H * geo.W, "z1 has not the shape of the result");
    z = dense(with_type(*z1, type), geo.nhwc);
  }
  Tensor y = new_tensor(x, {geo.N, geo.C, geo.H, geo.W}, type, geo.nhwc);
  dispatch(type, [&](auto element) {
    using T = decltype(element);
    const ZPointers<T> zs{read_or_null<T>(z), read_or_null<Acc<T>>(deviations), make_key(z1_key)};
    const auto kernel = in.fir.empty() ? forward<T, false> : forward<T, true>;
    const auto pointers = tail.pointers<Acc<T>>(noise_key, slope, gain);
    if (y.numel() > 0) kernel(geo, read<T>(in.maps.tensor), in.fir.data(), pointers, zs, write<T>(y));
  });
  return y;
}

TailSums styled_tail_grad_cpu(const Tensor& g, const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d,
                              const MaybeTensor& noise, const MaybeTensor& strength, const Tensor& b, int64_t noise_key,
                              double slope, double gain, bool need_strength, bool need_noise) {
  const Prepared in = prepare(x, fir);
  const Geometry& geo = in.geo;
  const ScalarType type = x.scalar_type();
  const ScalarType exact = type == ScalarType::Double ? type : ScalarType::Float;
  STD_TORCH_CHECK(g.numel() == geo.N * geo.C * geo.H * geo.W, "the gradient has not the shape of the result");
  const TailTensors tail(in.maps, geo.H, geo.W, d, noise, strength, b);
  const Tensor gs = dense(with_type(g, type), geo.nhwc);
  Tensor h = new_tensor(x, {geo.N, geo.C, geo.H, geo.W}, type, geo.nhwc);
  Tensor sum_gu = new_tensor(x, {geo.N, geo.C}, exact), sum_g = new_tensor(x, {geo.N, geo.C}, exact);
  const Sizes none{0}, scalar{}, pixels{geo.N, 1, geo.H, geo.W};
  Tensor sum_gn = new_tensor(x, need_strength ? scalar : none, exact);
  Tensor sum_c = new_tensor(x, need_noise ? pixels : none, exact);
  dispatch(type, [&](auto element) {
    using T = decltype(element);
    using A = Acc<T>;
    const auto kernel = in.fir.empty() ? gradient<T, false> : gradient<T, true>;
    const auto pointers = tail.pointers<A>(noise_key, slope, gain);
    kernel(geo, read<T>(gs), read<T>(in.maps.tensor), in.fir.data(), pointers, write<T>(h), write<A>(sum_gu),
           write<A>(sum_g), need_strength ? write<A>(sum_gn) : nullptr, need_noise ? write<A>(sum_c) : nullptr);
  });
  return {h, sum_gu, sum_g, sum_gn, sum_c};
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CPU, m) {
  m.impl("styled_tail", TORCH_BOX(&rtil::styled_tail_cpu));
  m.impl("styled_tail_grad", TORCH_BOX(&rtil::styled_tail_grad_cpu));
}
