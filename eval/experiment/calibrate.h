// Static ranges: one pass of the full-precision run over the calibration windows, layer by layer with all windows at once,
// so that percentile and mse rules see every value. Each site's range follows the target's own rule and granularity.
#pragma once

#include <vector>

#include "eval/model/decoder.h"

namespace qfid::eval {

/// ids i32 [windows, T]. One SiteRanges per precision, empty when it holds no static scheme.
std::vector<SiteRanges> calibrate(Decoder& baseline, const ModelConfig& config,
                                  const std::vector<DecoderPrecision>& precisions, const quant::Tensor& ids);

}  // namespace qfid::eval
