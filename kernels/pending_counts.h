// What a cast counted, or will have counted once its device has done it: asking waits then. Nobody who doesn't ask waits.
#pragma once

#include <memory>
#include <utility>

#include "quant/quantize.h"

namespace qfid::kernels {

class PendingCounts {
 public:
  /// Where counts lie until they are asked for; kept alive by those who may ask.
  class Source {
   public:
    virtual ~Source() = default;
    virtual quant::CodeCounts read() = 0;
  };

  PendingCounts() = default;  ///< of no cast: nothing
  explicit PendingCounts(quant::CodeCounts known) : known_(known) {}
  explicit PendingCounts(std::shared_ptr<Source> source) : source_(std::move(source)) {}

  /// The same whenever it is asked. Errors as Backend::download.
  quant::CodeCounts get() const { return source_ ? source_->read() : known_; }

 private:
  quant::CodeCounts known_{};
  std::shared_ptr<Source> source_;
};

}  // namespace qfid::kernels
