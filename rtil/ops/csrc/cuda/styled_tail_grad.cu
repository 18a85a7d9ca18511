// The styled tail's gradient on CUDA.
#include "launch.cuh"

#include "../styled_tail_launch.h"

namespace rtil {

extern template Tensor upfirdn2d_with(const CudaLaunch&, const Tensor&, const Tensor&, const std::vector<int64_t>&,
                                      const std::vector<int64_t>&, const std::vector<int64_t>&, bool, double);

namespace {

TailSums styled_tail_grad_cuda(const Tensor& g, const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d,
                               const MaybeTensor& noise, const MaybeTensor& strength, const Tensor& b,
                               int64_t noise_key, double slope, double gain, bool need_strength, bool need_noise) {
  return styled_tail_grad_with(CudaLaunch(x), g, x, fir, d, noise, strength, b, noise_key, slope, gain, need_strength,
                               need_noise);
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CUDA, m) { m.impl("styled_tail_grad", TORCH_BOX(&rtil::styled_tail_grad_cuda)); }
