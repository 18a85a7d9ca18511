// Runs the GPU's bodies on the CPU, thread by thread, so that their arithmetic and indices can be tested without a GPU.
// `fill` is the number of threads that the imaginary machine wants: the fewer, the longer is a thread's strip.
#pragma GCC optimize("O1")  // compiles faster, and speed is of no use here

#include "cuda_bodies_watch.h"

#define RTIL_ON_STORE(p, bytes) watch.store(p, bytes)
#define new_tensor watched_tensor

#include "styled_tail_launch.h"

namespace rtil {
namespace {

struct Loop {
  int64_t fill;

  template <class Body>
  void operator()(const Body& body, int64_t threads) const {
    const uint32_t blocks = static_cast<uint32_t>(ceil_divide(threads, kThreads));
    for (uint32_t block = 0; block < blocks; ++block) {
      for (uint32_t thread = 0; thread < kThreads; ++thread) body(block, thread);
    }
  }
};

Tensor upfirdn2d(const Tensor& x, const Tensor& f, const std::vector<int64_t>& up, const std::vector<int64_t>& down,
                 const std::vector<int64_t>& pad, bool flip, double gain, int64_t fill) {
  return watched([&] { return upfirdn2d_with(Loop{fill}, x, f, up, down, pad, flip, gain); });
}

Tensor bias_act(const Tensor& x, const MaybeTensor& b, double slope, double gain) {
  return watched([&] { return bias_act_with(Loop{1}, x, b, slope, gain); });
}

Tensor bias_act_grad(const Tensor& g, const Tensor& y, double slope, double gain) {
  return watched([&] { return bias_act_grad_with(Loop{1}, g, y, slope, gain); });
}

Tensor counter_normal(const std::vector<int64_t>& shape, int64_t key, const Tensor& like) {
  return watched([&] { return counter_normal_with(Loop{1}, shape, key, like); });
}

Tensor styled_tail(const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d, const MaybeTensor& noise,
                   const MaybeTensor& strength, const Tensor& b, const MaybeTensor& z1, const MaybeTensor& sigma,
                   int64_t noise_key, int64_t z1_key, double slope, double gain, int64_t fill) {
  return watched([&] {
    return styled_tail_with(Loop{fill}, x, fir, d, noise, strength, b, z1, sigma, noise_key, z1_key, slope, gain);
  });
}

TailSums styled_tail_grad(const Tensor& g, const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d,
                          const MaybeTensor& noise, const MaybeTensor& strength, const Tensor& b, int64_t noise_key,
                          double slope, double gain, bool need_strength, bool need_noise, int64_t fill) {
  return watched([&] {
    return styled_tail_grad_with(Loop{fill}, g, x, fir, d, noise, strength, b, noise_key, slope, gain, need_strength,
                                 need_noise);
  });
}

// Writes to these places of ten.
Tensor stores(const Tensor& like, const std::vector<int64_t>& places) {
  return watched([&] {
    Tensor y = new_tensor(like, {10}, ScalarType::Float);
    for (const int64_t i : places) store_one(write<float>(y) + i, 1.0f);
    return y;
  });
}

constexpr bool divides(uint32_t d) {
  const Divisor divisor(d);
  for (uint32_t n : {0u, 1u, d - 1, d, d + 1, 0x7fffffffu / d * d - 1, 0x7fffffffu / d * d, 0x7ffffffeu, 0x7fffffffu}) {
    if (n < 1u << 31 && (divisor.quotient(n) != n / d || divisor.remainder(n) != n % d)) return false;
  }
  return true;
}

constexpr bool divides_all() {
  for (uint32_t d = 1; d < 2000; ++d) {
    if (!divides(d)) return false;
  }
  for (uint32_t power = 1u << 11; power < 1u << 31; power <<= 1) {
    if (!divides(power - 1) || !divides(power) || !divides(power + power / 3)) return false;
  }
  return true;
}

static_assert(divides_all());

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_FRAGMENT(rtil, m) {
  m.def(
      "test_upfirdn2d(Tensor x, Tensor f, int[] up, int[] down, int[] pad, bool flip, float gain, int fill) -> Tensor");
  m.def("test_bias_act(Tensor x, Tensor? b, float slope, float gain) -> Tensor");
  m.def("test_bias_act_grad(Tensor g, Tensor y, float slope, float gain) -> Tensor");
  m.def(
      "test_styled_tail(Tensor x, Tensor? fir, Tensor? d, Tensor? noise, Tensor? strength, Tensor b, Tensor? z1, "
      "Tensor? sigma, int noise_key, int z1_key, float slope, float gain, int fill) -> Tensor");
  m.def(
      "test_styled_tail_grad(Tensor g, Tensor x, Tensor? fir, Tensor? d, Tensor? noise, Tensor? strength, Tensor b, "
      "int noise_key, float slope, float gain, bool need_strength, bool need_noise, int fill) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("test_counter_normal(int[] shape, int key, Tensor like) -> Tensor");
  m.def("test_stores(Tensor like, int[] places) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(rtil, CPU, m) {
  m.impl("test_upfirdn2d", TORCH_BOX(&rtil::upfirdn2d));
  m.impl("test_bias_act", TORCH_BOX(&rtil::bias_act));
  m.impl("test_bias_act_grad", TORCH_BOX(&rtil::bias_act_grad));
  m.impl("test_styled_tail", TORCH_BOX(&rtil::styled_tail));
  m.impl("test_styled_tail_grad", TORCH_BOX(&rtil::styled_tail_grad));
  m.impl("test_counter_normal", TORCH_BOX(&rtil::counter_normal));
  m.impl("test_stores", TORCH_BOX(&rtil::stores));
}
