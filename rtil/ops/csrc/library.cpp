// The operations' schemas. Kernels are registered beside their code; derivatives and fake kernels in Python.
#include "tensors.h"

STABLE_TORCH_LIBRARY(rtil, m) {
  m.def("upfirdn2d(Tensor x, Tensor f, int[] up, int[] down, int[] pad, bool flip, float gain) -> Tensor");
  m.def("bias_act(Tensor x, Tensor? b, float slope, float gain) -> Tensor");
  m.def("bias_act_grad(Tensor g, Tensor y, float slope, float gain) -> Tensor");
  m.def(
      "styled_tail(Tensor x, Tensor? fir, Tensor? d, Tensor? noise, Tensor? strength, Tensor b, Tensor? z1, "
      "Tensor? sigma, int noise_key, int z1_key, float slope, float gain) -> Tensor");
  m.def(
      "styled_tail_grad(Tensor g, Tensor x, Tensor? fir, Tensor? d, Tensor? noise, Tensor? strength, Tensor b, "
      "int noise_key, float slope, float gain, bool need_strength, bool need_noise) "
      "-> (Tensor h, Tensor sum_gu, Tensor sum_g, Tensor sum_gn, Tensor sum_c)");
  m.def("counter_normal(int[] shape, int key, Tensor like) -> Tensor");
}
