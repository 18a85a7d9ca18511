// upfirdn2d on CUDA.
#include "launch.cuh"

#include "../upfirdn2d_launch.h"

namespace rtil {

// The styled tail filters by it where the filter has not four taps.
template Tensor upfirdn2d_with(const CudaLaunch&, const Tensor&, const Tensor&, const std::vector<int64_t>&,
                               const std::vector<int64_t>&, const std::vector<int64_t>&, bool, double);

namespace {

Tensor upfirdn2d_cuda(const Tensor& x, const Tensor& f, const std::vector<int64_t>& up,
                      const std::vector<int64_t>& down, const std::vector<int64_t>& pad, bool flip, double gain) {
  return upfirdn2d_with(CudaLaunch(x), x, f, up, down, pad, flip, gain);
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CUDA, m) { m.impl("upfirdn2d", TORCH_BOX(&rtil::upfirdn2d_cuda)); }
