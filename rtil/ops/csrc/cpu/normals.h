// Runs of the counter generator's normals, vectorised.
#pragma once

#include <algorithm>

#include "../counter.h"
#include "rows.h"

namespace rtil {

// Blocks base .. base + n - 1, four normals each.
inline void normal_blocks(Key key, uint64_t base, int64_t n, float* __restrict out) {
  const uint32_t low = static_cast<uint32_t>(base), high = static_cast<uint32_t>(base >> 32);
  RTIL_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t block = low + static_cast<uint32_t>(i);
    float v[4];
    normal4(key, block, high + (block < low ? 1u : 0u), v);
    out[4 * i] = v[0];
    out[4 * i + 1] = v[1];
    out[4 * i + 2] = v[2];
    out[4 * i + 3] = v[3];
  }
}

// out[i] = scale * element (start + i) of the stream.
template <class A>
void normal_run(Key key, uint64_t start, int64_t count, A scale, A* __restrict out) {
  constexpr int64_t kBlocks = 64;
  float chunk[4 * kBlocks];
  while (count > 0) {
    const int64_t skipped = static_cast<int64_t>(start & 3u);
    const int64_t blocks = std::min<int64_t>(kBlocks, (skipped + count + 3) / 4);
    normal_blocks(key, start >> 2, blocks, chunk);
    const int64_t n = std::min<int64_t>(4 * blocks - skipped, count);
    for (int64_t i = 0; i < n; ++i) out[i] = scale * chunk[skipped + i];
    start += static_cast<uint64_t>(n);
    out += n;
    count -= n;
  }
}

// out[w * C + c] = scale * element (start + c * stride + w): a row of an NHWC map from a stream in NCHW order.
template <class A>
void normal_row_nhwc(Key key, uint64_t start, uint64_t stride, int64_t W, int64_t C, A scale, A* __restrict out) {
  if (start % 4 != 0 || stride % 4 != 0 || W % 4 != 0 || static_cast<uint64_t>(C) * (stride / 4) >> 32 != 0) {
    for (int64_t w = 0; w < W; ++w) {
      for (int64_t c = 0; c < C; ++c) out[w * C + c] = scale * normal1(key, start + c * stride + w);
    }
    return;
  }
  const uint32_t step = static_cast<uint32_t>(stride / 4);
  for (int64_t w = 0; w < W; w += 4) {
    const uint64_t base = (start + w) / 4;
    const uint32_t low = static_cast<uint32_t>(base), high = static_cast<uint32_t>(base >> 32);
    A* __restrict row = out + w * C;
    RTIL_INDEPENDENT
    for (int64_t c = 0; c < C; ++c) {
      const uint32_t block = low + static_cast<uint32_t>(c) * step;
      float v[4];
      normal4(key, block, high + (block < low ? 1u : 0u), v);
      row[c] = scale * v[0];
      row[c + C] = scale * v[1];
      row[c + 2 * C] = scale * v[2];
      row[c + 3 * C] = scale * v[3];
    }
  }
}

}  // namespace rtil
