// Malformed inputs, each with its exact message (DIR stands for the test's directory): checked against the readers and,
// with the exit code, against the program.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/checkpoint_files.h"

namespace qfid::tests {

/// Writes a checkpoint into DIR/m, which is bad in one way.
struct MalformedModel {
  std::string name;
  std::function<void(const TemporaryDirectory&)> write;
  std::string expected;
};
std::vector<MalformedModel> malformed_safetensors();
std::vector<MalformedModel> malformed_indices();
std::vector<MalformedModel> malformed_configs();
std::vector<MalformedModel> malformed_checkpoints();

/// Content of DIR/tokens.npy.
struct MalformedNpy {
  std::string name, content, expected;
};
std::vector<MalformedNpy> malformed_npy();

}  // namespace qfid::tests
