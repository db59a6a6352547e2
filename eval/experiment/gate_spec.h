// `gates:` of a configuration as checked data: what must hold for a model under a target to ship.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qfid::eval {

struct ExpectedFailure {
  std::string reason;
  std::string expires;  ///< the last day on which it is accepted, YYYY-MM-DD (UTC)
};

struct GateSpec {
  std::string name;
  std::string models = "*", targets = "*";  ///< patterns (spec.h, matches); the baseline is never gated
  std::string metric;                       ///< a name of gate_metrics(), or "exact.logits", "exact.taps"
  std::string exact;                        ///< "logits", "taps": nothing may change, and there is no bound; "" = not
  double bound = 0;                         ///< on the metric's own scale
  bool upper = true;                        ///< max; otherwise min
  std::string relative_target;              ///< compared with this target of the same model; "" = not
  std::string relative_written;             ///< compared with this saved baseline, as written; "" = not
  std::filesystem::path relative_file;
  double confidence = 0.99;
  bool warn_when_inconclusive = false;
  std::optional<ExpectedFailure> expected_failure;
};

/// A calendar day YYYY-MM-DD.
bool is_date(const std::string& text);
/// Today, UTC.
std::string today();

}  // namespace qfid::eval
