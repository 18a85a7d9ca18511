// upfirdn2d on the CPU, row by row: the vertical taps make one row of sums, the horizontal taps filter that row.
// Both are loops over contiguous memory; N C H W maps are N * C planes with one element a pixel. Four taps that neither
// insert nor drop samples, the common case, have their own kernels (strips.h).
#include "../upfirdn2d.h"

#include <vector>

#include "strips.h"

namespace rtil {
namespace {

// Correlation taps: x holds the horizontal ones of every filter row, or one row of them beside the vertical ones in y.
template <class A>
struct Filter {
  std::vector<A> x, y;
  bool separable;
};

using Matrix = std::vector<double>;

// Writes f = column * row where that holds to `tolerance` of the largest element.
bool factor(const Matrix& f, int64_t fh, int64_t fw, double tolerance, Matrix& column, Matrix& row) {
  int64_t pivot = 0;
  for (int64_t i = 1; i < fh * fw; ++i) {
    if (std::abs(f[i]) > std::abs(f[pivot])) pivot = i;
  }
  if (f[pivot] == 0) return false;
  const int64_t top = pivot / fw, left = pivot % fw;
  for (int64_t i = 0; i < fh; ++i) column[i] = f[i * fw + left];
  for (int64_t j = 0; j < fw; ++j) row[j] = f[top * fw + j] / f[pivot];
  for (int64_t i = 0; i < fh * fw; ++i) {
    if (std::abs(column[i / fw] * row[i % fw] - f[i]) > tolerance * std::abs(f[pivot])) return false;
  }
  return true;
}

template <class A>
Filter<A> make_filter(const Tensor& f, bool flip, double gain) {
  const Tensor taps = dense(with_type(f, ScalarType::Double), false);
  Matrix matrix(read<double>(taps), read<double>(taps) + taps.numel());
  if (!flip) std::reverse(matrix.begin(), matrix.end());
  const int64_t fh = f.size(0), fw = f.size(f.dim() - 1);
  Matrix column(fh), row(fw);
  bool separable = true;
  if (f.dim() == 1) {
    column = row = matrix;
  } else {
    separable = factor(matrix, fh, fw, sizeof(A) == sizeof(double) ? 1e-15 : 1e-7, column, row);
  }
  Matrix& scaled = separable ? column : matrix;
  for (double& v : scaled) v *= gain;
  const Matrix& horizontal = separable ? row : matrix;
  const std::vector<A> y(column.begin(), column.end());
  return {std::vector<A>(horizontal.begin(), horizontal.end()), y, separable};
}

// out[i] = sum over k of w[k * step] * v[k * stride + i].
template <int K, class T>
void filter_run(const Acc<T>* taps, int64_t step, const Acc<T>* __restrict v, int64_t stride, T* __restrict out,
                int64_t n) {
  Acc<T> w[K];
  for (int k = 0; k < K; ++k) w[k] = taps[k * step];
  RTIL_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    Acc<T> sum = w[0] * v[i];
    if constexpr (K > 1) sum = madd(w[1], v[stride + i], sum);
    if constexpr (K > 2) sum = madd(w[2], v[2 * stride + i], sum);
    if constexpr (K > 3) sum = madd(w[3], v[3 * stride + i], sum);
    out[i] = narrow<T>(sum);
  }
}

template <class A>
void accumulate_run(const A* taps, int64_t step, int count, const A* v, int64_t stride, A* __restrict sum, int64_t n) {
  for (int k = 0; k < count; ++k) {
    const A w = taps[k * step];
    const A* __restrict shifted = v + k * stride;
    RTIL_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) sum[i] = madd(w, shifted[i], sum[i]);
  }
}

// Planes of one element a pixel, four taps, twice as many pixels: both phases in one loop.
template <class T>
void double_row(const Axis& axis, const Acc<T>* w, const Acc<T>* __restrict v, int64_t first, int64_t x0, int64_t x1,
                T* __restrict out) {
  int64_t x = x0;
  const auto one = [&](int64_t at) {
    const Axis::First f = axis.first(at);
    filter_run<2, T>(w + f.tap, 2, v + (f.index - first), 1, out + (at - x0), 1);
  };
  if (axis.first(x).tap != 0) one(x++);
  const int64_t pairs = (x1 - x) / 2;
  const Acc<T>* __restrict in = v + (axis.first(x).index - first);
  T* __restrict to = out + (x - x0);
  const Acc<T> w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
  RTIL_INDEPENDENT
  for (int64_t i = 0; i < pairs; ++i) {
    to[2 * i] = narrow<T>(madd(w2, in[i + 1], w0 * in[i]));
    to[2 * i + 1] = narrow<T>(madd(w3, in[i + 2], w1 * in[i + 1]));
  }
  if (x + 2 * pairs < x1) one(x + 2 * pairs);
}

template <class T>
void halve_row(const Acc<T>* w, const Acc<T>* __restrict v, int64_t n, T* __restrict out) {
  const Acc<T> w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
  RTIL_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    out[i] = narrow<T>(madd(w3, v[2 * i + 3], madd(w2, v[2 * i + 2], madd(w1, v[2 * i + 1], w0 * v[2 * i]))));
  }
}

int tap_count(const Axis& axis, int64_t first_tap) {
  return static_cast<int>(std::max<int64_t>(0, (axis.taps - first_tap + axis.up - 1) / axis.up));
}

// Output pixels [x0, x1) from the row v of sums, which begins at input pixel `first`.
template <class T>
void filter_row(const Axis& axis, const Acc<T>* w, const Acc<T>* v, int64_t first, int64_t inner, int64_t x0,
                int64_t x1, T* out, std::vector<Acc<T>>& sums) {
  using A = Acc<T>;
  if (axis.taps == 4 && axis.up == 1 && axis.down == 1) {
    return filter_run<4, T>(w, 1, v, inner, out, (x1 - x0) * inner);
  }
  if (inner == 1 && axis.taps == 4 && axis.up == 2 && axis.down == 1) {
    return double_row(axis, w, v, first, x0, x1, out);
  }
  if (inner == 1 && axis.taps == 4 && axis.up == 1 && axis.down == 2) return halve_row(w, v, x1 - x0, out);
  for (int64_t x = x0; x < x1; ++x, out += inner) {
    const Axis::First f = axis.first(x);
    const int count = tap_count(axis, f.tap);
    const A* in = v + (f.index - first) * inner;
    if (count == 4) {
      filter_run<4, T>(w + f.tap, axis.up, in, inner, out, inner);
    } else if (count == 2) {
      filter_run<2, T>(w + f.tap, axis.up, in, inner, out, inner);
    } else {
      sums.assign(inner, A(0));
      accumulate_run(w + f.tap, axis.up, count, in, inner, sums.data(), inner);
      for (int64_t c = 0; c < inner; ++c) out[c] = narrow<T>(sums[c]);
    }
  }
}

// Adds one filter row's share to the output pixels [x0, x1).
template <class A>
void accumulate_row(const Axis& axis, const A* w, const A* v, int64_t first, int64_t inner, int64_t x0, int64_t x1,
                    A* sums) {
  if (axis.up == 1 && axis.down == 1) {
    return accumulate_run(w, 1, static_cast<int>(axis.taps), v, inner, sums, (x1 - x0) * inner);
  }
  for (int64_t x = x0; x < x1; ++x, sums += inner) {
    const Axis::First f = axis.first(x);
    accumulate_run(w + f.tap, axis.up, tap_count(axis, f.tap), v + (f.index - first) * inner, inner, sums, inner);
  }
}

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

template <class T>
void run(const T* x, T* y, int64_t planes, int64_t inner, const Axes& axes, const Filter<Acc<T>>& filter) {
  using A = Acc<T>;
  const Axis ax = axes.x, ay = axes.y;
  const int64_t tile = std::min(ax.out, std::max<int64_t>(8, kTileElements / inner));
  const int64_t window = floor_divide((tile - 1) * ax.down + ax.taps - 1, ax.up) + 2;
  parallel_tasks(planes * ay.out, ax.out * inner, [&](int64_t begin, int64_t end) {
    Scratch<A> v(window * inner);
    std::vector<A> sums;
    const T* rows[kMostTaps];
    A weights[kMostTaps];
    int64_t taps[kMostTaps];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t oy = task % ay.out;
      const T* plane = x + task / ay.out * ay.in * ax.in * inner;
      T* out = y + task * ax.out * inner;
      const Axis::First top = ay.first(oy);
      int count = 0;
      for (int64_t k = top.tap, iy = top.index; k < ay.taps; k += ay.up, ++iy) {
        if (iy < 0 || iy >= ay.in) continue;
        rows[count] = plane + iy * ax.in * inner;
        weights[count] = filter.separable ? filter.y[k] : A(1);
        taps[count++] = k;
      }
      for (int64_t x0 = 0; x0 < ax.out; x0 += tile) {
        const int64_t x1 = std::min(ax.out, x0 + tile);
        const int64_t first = ax.first(x0).index;
        const int64_t last = std::max(first, floor_divide((x1 - 1) * ax.down - ax.pad + ax.taps - 1, ax.up) + 1);
        if (filter.separable) {
          sum_window(rows, weights, count, ax.in, inner, first, last, v.data());
          filter_row<T>(ax, filter.x.data(), v.data(), first, inner, x0, x1, out + x0 * inner, sums);
          continue;
        }
        sums.assign((x1 - x0) * inner, A(0));
        for (int k = 0; k < count; ++k) {
          sum_window(rows + k, weights + k, 1, ax.in, inner, first, last, v.data());
          accumulate_row(ax, filter.x.data() + taps[k] * ax.taps, v.data(), first, inner, x0, x1, sums.data());
        }
        for (int64_t i = 0; i < (x1 - x0) * inner; ++i) out[x0 * inner + i] = narrow<T>(sums[i]);
      }
    }
  });
}

template <class T>
RTIL_APART void filter_pixels(Filtered<Acc<T>> u, int64_t C, int64_t pixels, T* out) {
  over_groups<2>(pixels, [&](auto group, int64_t) __attribute__((always_inline)) {
    constexpr int P = decltype(group)::value;
    over_lanes<Acc<T>>(C, [&](int64_t lane, auto lanes) __attribute__((always_inline)) {
      Lanes<Acc<T>> values[P];
      u.get(lane, lanes, values);
      RTIL_UNROLL
      for (int p = 0; p < P; ++p) store<T>(out + p * C + lane, values[p], lanes);
    });
    u.advance(P);
    out += P * C;
  });
}

template <class T>
void run_four_nhwc(const T* x, T* y, int64_t N, int64_t C, const Axes& axes, const Filter<Acc<T>>& filter) {
  const Axis ax = axes.x, ay = axes.y;
  const int64_t groups = (ay.out + kRows - 1) / kRows;
  parallel_tasks(N * groups, kRows * ax.out * C, [&](int64_t begin, int64_t end) {
    RowSums<T> sums(ay.in, ax.in, C, ax.pad, ay.pad, filter.y.data());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / groups, y0 = task % groups * kRows, y1 = std::min(ay.out, y0 + kRows);
      for (int64_t x0 = 0; x0 < ax.out; x0 += sums.tile()) {
        const int64_t x1 = std::min(ax.out, x0 + sums.tile());
        sums.fill(x + n * ay.in * ax.in * C, y0, y1 - y0, x0, x1);
        for (int64_t row = y0; row < y1; ++row) {
          const Filtered<Acc<T>> u(sums.at(row - y0, 0), C, filter.x.data());
          filter_pixels<T>(u, C, x1 - x0, y + ((n * ay.out + row) * ax.out + x0) * C);
        }
      }
    }
  });
}

template <class T>
void run_four_nchw(const T* x, T* y, int64_t planes, const Axes& axes, const Filter<Acc<T>>& filter) {
  using A = Acc<T>;
  const Axis ax = axes.x, ay = axes.y;
  parallel_tasks(planes, ay.out * ax.out, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      over_lanes<A>(ax.out, [&](int64_t lane, auto lanes) {
        Cross<T, 4, Some> cross;
        for (int k = 0; k < 4; ++k) {
          const int64_t first = lane - ax.pad + k;
          cross.p[k] = x + plane * ay.in * ax.in + first;
          cross.w[k] = filter.x[k];
          cross.lanes[k] = lanes_inside<A>(first, ax.in, std::min<int64_t>(kLanes<A>, ax.out - lane));
        }
        cross.stride = ax.in;
        T* out = y + plane * ay.out * ax.out + lane;
        walk(cross, ay.in, ay.pad, filter.y.data(), 0, ay.out, [&](int64_t o, Lanes<A> v)
                 __attribute__((always_inline)) { store<T>(out + o * ax.out, v, lanes); });
      });
    }
  });
}

bool keeps_samples(const Axis& axis) { return axis.up == 1 && axis.down == 1 && axis.taps == 4; }

}  // namespace

Tensor upfirdn2d_cpu(const Tensor& x, const Tensor& f, const std::vector<int64_t>& up, const std::vector<int64_t>& down,
                     const std::vector<int64_t>& pad, bool flip, double gain) {
  const Maps maps = as_maps(x);
  const Axes axes = make_axes(maps, f, up, down, pad);
  Tensor y = new_tensor(x, {maps.N, maps.C, axes.y.out, axes.x.out}, x.scalar_type(), maps.nhwc);
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto filter = make_filter<Acc<T>>(f, flip, gain);
    const int64_t planes = maps.nhwc ? maps.N : maps.N * maps.C;
    if (y.numel() == 0) return;
    if (filter.separable && keeps_samples(axes.x) && keeps_samples(axes.y)) {
      if (!maps.nhwc) return run_four_nchw<T>(read<T>(maps.tensor), write<T>(y), planes, axes, filter);
      if (maps.C >= kLanes<Acc<T>>) {
        return run_four_nhwc<T>(read<T>(maps.tensor), write<T>(y), planes, maps.C, axes, filter);
      }
    }
    run<T>(read<T>(maps.tensor), write<T>(y), planes, maps.nhwc ? maps.C : 1, axes, filter);
  });
  return y;
}

}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CPU, m) { m.impl("upfirdn2d", TORCH_BOX(&rtil::upfirdn2d_cpu)); }
