// Launches bodies on torch's current stream of a tensor's device.
#pragma once

#define USE_CUDA  // shim.h then declares the stream

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/shim_utils.h>

#include "../launch.h"

namespace rtil {

template <class Body>
__global__ void __launch_bounds__(kThreads, Body::kBlocks) run_body(const __grid_constant__ Body body) {
  body(blockIdx.x, threadIdx.x);
}

// Makes the device current as long as it lives.
class RTIL_LOCAL CudaLaunch {
 public:
  static constexpr int64_t fill = 1 << 18;  // two waves of 1000 threads on each of an H200's 132 processors

  explicit CudaLaunch(const Tensor& x) : guard_(x.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <class Body>
  void operator()(const Body& body, int64_t threads) const {
    run_body<<<as_index(ceil_divide(threads, kThreads)), kThreads, 0, stream_>>>(body);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "a kernel was not launched: ", cudaGetErrorString(error));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace rtil
