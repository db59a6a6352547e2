// Where the test checkpoints are, and a spec for one: the built-in tiny-* models, and the larger ones where they are at
// hand.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "eval/experiment/runner.h"

namespace qfid::tests {

namespace fs = std::filesystem;

/// QFID_SHARED, or ../shared: models/lm-*, data/gutenberg. Not part of the repository.
inline fs::path shared_folder() {
  const char* given = std::getenv("QFID_SHARED");
  return given != nullptr ? fs::path(given) : fs::path(QFID_SOURCE_DIR) / ".." / "shared";
}

inline bool is_tiny(const std::string& model) { return model.starts_with("tiny"); }

inline fs::path checkpoint_folder(const std::string& model) {
  return (is_tiny(model) ? fs::path(QFID_SOURCE_DIR) / "configs" : shared_folder()) / "models" / model;
}

inline bool checkpoint_is_here(const std::string& model) { return fs::exists(checkpoint_folder(model)); }

/// Its model and tokens, an f32 baseline, no targets, all windows, default measures.
inline eval::Spec checkpoint_spec(const std::string& model) {
  eval::Spec spec;
  spec.name = "test";
  spec.file = "test.yaml";
  spec.models = {{model, checkpoint_folder(model), model}};
  spec.data.tokens = is_tiny(model) ? fs::path(QFID_SOURCE_DIR) / "configs" / "data" / "tiny-tokens.npy"
                                    : shared_folder() / "data" / "gutenberg" / "tokens.npy";
  spec.baseline.name = "baseline";
  return spec;
}

}  // namespace qfid::tests
