// bias_act, its gradient and counter_normal on CUDA.
#include "launch.cuh"

#include "../bias_act_launch.h"

namespace rtil {
namespace {

Tensor bias_act_cuda(const Tensor& x, const MaybeTensor& b, double slope, double gain) {
  return bias_act_with(CudaLaunch(x), x, b, slope, gain);
}

Tensor bias_act_grad_cuda(const Tensor& g, const Tensor& y, double slope, double gain) {
  return bias_act_grad_with(CudaLaunch(y), g, y, slope, gain);
}

Tensor counter_normal_cuda(const std::vector<int64_t>& shape, int64_t key, const Tensor& like) {
  return counter_normal_with(CudaLaunch(like), shape, key, like);
}

}  // namespace
}  // namespace rtil

STABLE_TORCH_LIBRARY_IMPL(rtil, CUDA, m) {
  m.impl("bias_act", TORCH_BOX(&rtil::bias_act_cuda));
  m.impl("bias_act_grad", TORCH_BOX(&rtil::bias_act_grad_cuda));
  m.impl("counter_normal", TORCH_BOX(&rtil::counter_normal_cuda));
}
