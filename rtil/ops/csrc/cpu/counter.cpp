// counter_normal on the CPU.
#include "normals.h"

namespace rtil {
namespace {

struct Block {
  uint32_t words[4];
  bool operator==(const Block&) const = default;
};

constexpr Block philox(Block counter, uint32_t k0, uint32_t k1) {
  philox4x32(k0, k1, counter.words);
  return counter;
}

// Known answers of Random123, the authors' own implementation.
constexpr uint32_t kOne = 0xffffffff;
static_assert(philox({}, 0, 0) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
static_assert(philox({kOne, kOne, kOne, kOne}, kOne, kOne) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
static_assert(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
              Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});

Tensor counter_normal_cpu(const std::vector<int64_t>& shape, int64_t key, const Tensor& like) {
  Tensor out = new_tensor(like, shape, ScalarType::Float);
  const int64_t total = out.numel();
  float* to = write<float>(out);
  constexpr int64_t kChunk = 4096;
  parallel_tasks((total + kChunk - 1) / kChunk, kChunk, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kChunk;
    normal_run<float>(make_key(key), from, std::min(total, end * kChunk) - from, 1.0f, to + from);
  });
  return out;
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CPU, m) { m.impl("counter_normal", TORCH_BOX(&rtil::counter_normal_cpu)); }
