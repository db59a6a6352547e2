// Names of a run's units (unit_store.h), from its configuration and its windows.
#pragma once

#include <string>
#include <vector>

#include "eval/data/windows.h"
#include "eval/experiment/spec.h"

namespace qfid::eval {

struct WindowRange {
  std::size_t begin = 0, end = 0;
};
/// `most` windows of one length each, in order; the last ones of a length may be fewer.
std::vector<WindowRange> chunks_of(const std::vector<Window>& windows, std::int64_t most);

std::string chunk_unit(const std::string& model, const WindowRange& chunk);
std::string noise_unit(const std::string& model);
std::string interventions_unit(const std::string& model, const std::string& target);
std::string budget_unit(const std::string& model, const std::string& target);

/// All of one model, in order: chunks, then the later passes that the configuration asks for, run or not.
std::vector<std::string> unit_ids(const Spec& spec, const std::string& model, const std::vector<WindowRange>& chunks);

}  // namespace qfid::eval
