// Four-tap filters in registers.
//
// NCHW: a register of columns walks down the rows of a plane and holds their horizontal sums; nothing is stored between
// the axes. NHWC: the vertical sums of four rows at once are stored in the first cache, tile by tile, so that memory is
// read and written in its own order; a register holds channels.
#pragma once

#include "lanes.h"
#include "rows.h"

namespace rtil {

// The sum of K weighted loads, at step i of the strip.
template <class T, int K, class M>
struct Cross {
  using A = Acc<T>;
  const T* p[K];
  A w[K];
  M lanes[K];
  int64_t stride;

  RTIL_HD Lanes<A> operator()(int64_t i) const {
    Lanes<A> sum = splat<A>(w[0]) * load<A>(p[0] + i * stride, lanes[0]);
    RTIL_UNROLL
    for (int k = 1; k < K; ++k) sum = fma<A>(splat<A>(w[k]), load<A>(p[k] + i * stride, lanes[k]), sum);
    return sum;
  }
};

// Outputs [begin, end) of a strip with `in` inputs: emit(output, lanes) for each.
template <class A, class C, class Emit>
RTIL_HD void walk(const C& cross, int64_t in, int64_t pad, const A* taps, int64_t begin, int64_t end,
                  const Emit& emit) {
  const Lanes<A> w0 = splat<A>(taps[0]), w1 = splat<A>(taps[1]), w2 = splat<A>(taps[2]), w3 = splat<A>(taps[3]);
  const auto at = [&](int64_t i) __attribute__((always_inline)) { return i >= 0 && i < in ? cross(i) : Lanes<A>{}; };
  int64_t i = begin - pad;
  Lanes<A> v0 = at(i), v1 = at(i + 1), v2 = at(i + 2);
  for (int64_t o = begin; o < end; ++o, ++i) {
    const Lanes<A> v3 = at(i + 3);
    emit(o, fma<A>(w3, v3, fma<A>(w2, v2, fma<A>(w1, v1, w0 * v0))));
    v0 = v1;
    v1 = v2;
    v2 = v3;
  }
}

// Calls f(lane, lanes) for the registers that cover n elements.
template <class A, class F>
RTIL_HD void over_lanes(int64_t n, const F& f) {
  int64_t lane = 0;
  for (; lane + kLanes<A> <= n; lane += kLanes<A>) f(lane, All{});
  if (lane < n) f(lane, Some{0, static_cast<int>(n - lane)});
}

// Calls f(integral_constant<int, P>, i) for groups of P of n elements, then for the single ones that are left.
template <int P, class F>
RTIL_HD void over_groups(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + P <= n; i += P) f(std::integral_constant<int, P>{}, i);
  for (; i < n; ++i) f(std::integral_constant<int, 1>{}, i);
}

// Lanes [0, n) of a register whose lane 0 is element `first` of a row with `width` elements.
template <class A>
inline Some lanes_inside(int64_t first, int64_t width, int64_t n) {
  const int64_t lo = std::clamp<int64_t>(-first, 0, n);
  return {static_cast<int>(lo), static_cast<int>(std::clamp<int64_t>(width - first, lo, n))};
}

constexpr int kRows = 4;                 // that are filtered together
constexpr int64_t kSumElements = 1024;  // of each row's tile of sums

template <int R, class T, class M>
RTIL_HD void sum_four(const T* const* rows, const Lanes<Acc<T>>* w, Acc<T>* out, int64_t pitch, int64_t i, M lanes) {
  using A = Acc<T>;
  Lanes<A> x[R + 3];
  RTIL_UNROLL
  for (int k = 0; k < R + 3; ++k) x[k] = load<A>(rows[k] + i, lanes);
  if constexpr (R > 1) {  // the next tile of the rows that no other sum has read yet
    RTIL_UNROLL
    for (int k = 3; k < R + 3; ++k) __builtin_prefetch(rows[k] + i + kSumElements);
  }
  RTIL_UNROLL
  for (int r = 0; r < R; ++r) {
    Lanes<A> sum = w[0] * x[r];
    RTIL_UNROLL
    for (int k = 1; k < 4; ++k) sum = fma<A>(w[k], x[r + k], sum);
    store<A>(out + r * pitch + i, sum, lanes);
  }
}

// Vertical sums of up to kRows output rows of an NHWC map, for a tile of pixels and three more.
template <class T>
class RowSums {
 public:
  using A = Acc<T>;

  RowSums(int64_t in_h, int64_t in_w, int64_t C, int64_t pad_x, int64_t pad_y, const A* weights)
      : in_h_(in_h),
        in_w_(in_w),
        C_(C),
        pad_x_(pad_x),
        pad_y_(pad_y),
        w_(weights),
        tile_(std::max<int64_t>(4, kSumElements / C)),
        pitch_(((tile_ + 3) * C + 15) / 16 * 16),
        zeros_(in_w * C, T{}),
        v_(kRows * pitch_) {}

  int64_t tile() const { return tile_; }

  // After this, sum k of output pixel x0 + i in row y + r is at(r, i) + k * C. Tiles of a row come in their order.
  void fill(const T* map, int64_t y, int64_t rows, int64_t x0, int64_t x1) {
    const T* from[kRows + 3] = {};
    for (int64_t k = 0; k < rows + 3; ++k) {
      const int64_t row = y - pad_y_ + k;
      from[k] = row >= 0 && row < in_h_ ? map + row * in_w_ * C_ : zeros_.data();
    }
    const int64_t first = x0 - pad_x_, last = x1 - pad_x_ + 3;
    int64_t begin = first;
    if (x0 > 0) {  // three columns are known from the tile before
      for (int64_t r = 0; r < rows; ++r) {
        A* row = v_.data() + r * pitch_;
        memmove(row, row + tile_ * C_, 3 * C_ * sizeof(A));
      }
      begin += 3;
    }
    const int64_t lo = std::clamp<int64_t>(0, begin, last), hi = std::clamp<int64_t>(in_w_, lo, last);
    for (int64_t r = 0; r < rows; ++r) {
      A* row = v_.data() + r * pitch_;
      std::fill(row + (begin - first) * C_, row + (lo - first) * C_, A(0));
      std::fill(row + (hi - first) * C_, row + (last - first) * C_, A(0));
    }
    for (int64_t k = 0; k < rows + 3; ++k) from[k] += lo * C_;
    A* out = v_.data() + (lo - first) * C_;
    const int64_t n = (hi - lo) * C_, pitch = pitch_;
    const Lanes<A> w[4] = {splat<A>(w_[0]), splat<A>(w_[1]), splat<A>(w_[2]), splat<A>(w_[3])};
    if (rows == kRows) {
      over_lanes<A>(n, [&](int64_t i, auto lanes)
                           __attribute__((always_inline)) { sum_four<kRows, T>(from, w, out, pitch, i, lanes); });
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      over_lanes<A>(n, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        sum_four<1, T>(from + r, w, out + r * pitch, pitch, i, lanes);
      });
    }
  }

  const A* at(int64_t r, int64_t i) { return v_.data() + r * pitch_ + i * C_; }

 private:
  int64_t in_h_, in_w_, C_, pad_x_, pad_y_;
  const A* w_;
  int64_t tile_, pitch_;
  std::vector<T> zeros_;
  Scratch<A> v_;
};

// Where a run of NHWC pixels comes from: get() gives the registers of P neighbouring pixels.
template <class A>
struct Filtered {
  const A* v;  // vertical sums, of three pixels more
  int64_t C;
  Lanes<A> w0, w1, w2, w3;

  Filtered(const A* sums, int64_t channels, const A* w)
      : v(sums), C(channels), w0(splat<A>(w[0])), w1(splat<A>(w[1])), w2(splat<A>(w[2])), w3(splat<A>(w[3])) {}

  void advance(int64_t pixels) { v += pixels * C; }

  template <int P, class M>
  RTIL_HD void get(int64_t lane, M lanes, Lanes<A> (&u)[P]) const {
    Lanes<A> x[P + 3];
    RTIL_UNROLL
    for (int k = 0; k < P + 3; ++k) x[k] = load<A>(v + k * C + lane, lanes);
    RTIL_UNROLL
    for (int p = 0; p < P; ++p) u[p] = fma<A>(w3, x[p + 3], fma<A>(w2, x[p + 2], fma<A>(w1, x[p + 1], w0 * x[p])));
  }
};

template <class T>
struct Plain {
  const T* x;
  int64_t C;

  void advance(int64_t pixels) { x += pixels * C; }

  template <int P, class M>
  RTIL_HD void get(int64_t lane, M lanes, Lanes<Acc<T>> (&u)[P]) const {
    RTIL_UNROLL
    for (int p = 0; p < P; ++p) u[p] = load<Acc<T>>(x + p * C + lane, lanes);
  }
};

}  // namespace rtil
