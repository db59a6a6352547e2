// Reads a family's tensors by name, or only checks that it could; everything that is wrong is said in one error.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "eval/model/checkpoint.h"
#include "quant/core/error.h"
#include "quant/core/tensor.h"

namespace qfid::eval {

class TensorLoader {
 public:
  /// `prefix` goes before the names given to get(); with `load` false tensors are checked and come back empty.
  TensorLoader(Checkpoint& checkpoint, std::string prefix, bool load)
      : checkpoint_(checkpoint), prefix_(std::move(prefix)), load_(load) {}

  bool has(const std::string& name) const { return checkpoint_.has(prefix_ + name); }
  bool has_full(const std::string& name) const { return checkpoint_.has(name); }
  quant::Tensor get(const std::string& name, const std::vector<std::int64_t>& shape) {
    return get_full(prefix_ + name, shape);
  }
  quant::Tensor get_full(const std::string& name, const std::vector<std::int64_t>& shape) {
    if (!checkpoint_.has(name)) {
      if (++missing_ <= most_named) names_ += (names_.empty() ? "" : ", ") + name;
      return {};
    }
    try {
      checkpoint_.check_f32(name, shape);
    } catch (const quant::Error& error) {
      if (++wrong_ <= most_named) lines_ += (lines_.empty() ? "" : "\n") + std::string(error.what());
      return {};
    }
    return load_ ? checkpoint_.load_f32(name, shape) : quant::Tensor();
  }

  /// Error{input} naming what was missing or of another shape.
  void finish() const {
    std::string text = lines_;
    if (wrong_ > most_named) text += "\nand " + std::to_string(wrong_ - most_named) + " more";
    if (missing_ > 0) text += (text.empty() ? "" : "\n") + checkpoint_.directory().string() + ": missing tensors: " + names_;
    if (missing_ > most_named) text += " and " + std::to_string(missing_ - most_named) + " more";
    if (!text.empty()) throw quant::Error(quant::ErrorKind::input, text);
  }

 private:
  static constexpr int most_named = 100;  // a configuration of 10,000 layers must not print a novel
  Checkpoint& checkpoint_;
  std::string prefix_;
  bool load_;
  std::string names_, lines_;
  int missing_ = 0, wrong_ = 0;
};

}  // namespace qfid::eval
