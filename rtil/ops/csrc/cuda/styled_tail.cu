// The styled tail on CUDA.
#include "launch.cuh"

#include "../styled_tail_launch.h"

namespace rtil {

extern template Tensor upfirdn2d_with(const CudaLaunch&, const Tensor&, const Tensor&, const std::vector<int64_t>&,
                                      const std::vector<int64_t>&, const std::vector<int64_t>&, bool, double);

namespace {

Tensor styled_tail_cuda(const Tensor& x, const MaybeTensor& fir, const MaybeTensor& d, const MaybeTensor& noise,
                        const MaybeTensor& strength, const Tensor& b, const MaybeTensor& z1, const MaybeTensor& sigma,
                        int64_t noise_key, int64_t z1_key, double slope, double gain) {
  return styled_tail_with(CudaLaunch(x), x, fir, d, noise, strength, b, z1, sigma, noise_key, z1_key, slope, gain);
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CUDA, m) { m.impl("styled_tail", TORCH_BOX(&rtil::styled_tail_cuda)); }
