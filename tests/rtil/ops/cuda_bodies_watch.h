// Watches what the GPU's bodies write when a test runs them on the CPU: the tensors that were made for it, every byte
// once, and nothing else.
#pragma once

#include <stdexcept>

#include "tensors.h"

namespace rtil {

class RTIL_LOCAL Watch {
 public:
  void forget() { results_.clear(); }

  Tensor add(Tensor made) {
    const auto begin = reinterpret_cast<uintptr_t>(made.const_data_ptr());
    results_.push_back({made, begin, std::vector<bool>(made.numel() * made.element_size())});
    return made;
  }

  void store(const void* p, size_t bytes) {
    const auto from = reinterpret_cast<uintptr_t>(p);
    for (Result& result : results_) {
      const size_t first = from - result.begin;
      if (from < result.begin || first + bytes > result.written.size()) continue;
      for (size_t i = first; i < first + bytes; ++i) {
        if (result.written[i]) throw std::logic_error("bodies write twice to one place");
        result.written[i] = true;
      }
      return;
    }
    throw std::logic_error("bodies write outside of their results");
  }

  void check() const {
    for (const Result& result : results_) {
      for (const bool written : result.written) {
        if (!written) throw std::logic_error("bodies do not write all of their results");
      }
    }
  }

 private:
  struct Result {
    Tensor tensor;  // whose memory may be used by no other while this is watched
    uintptr_t begin;
    std::vector<bool> written;
  };
  std::vector<Result> results_;
};

inline Watch watch;

inline Tensor watched_tensor(const Tensor& like, const Sizes& sizes, ScalarType type, bool nhwc = false) {
  return watch.add(new_tensor(like, sizes, type, nhwc));
}

inline Tensor watched_tensor(const Tensor& like) { return watch.add(new_tensor(like)); }

template <class F>
auto watched(const F& run) {
  watch.forget();
  auto results = run();
  watch.check();
  watch.forget();
  return results;
}

}  // namespace rtil
