// TensorHashes as JSON: in results.json and in saved baselines alike.
#pragma once

#include <nlohmann/json.hpp>

#include "eval/experiment/tensor_hashes.h"
#include "eval/json/json_cursor.h"

namespace qfid::eval {

nlohmann::ordered_json hashes_json(const TensorHashes& hashes);
/// Error{input} naming the key.
TensorHashes hashes_of(const JsonCursor& at);

}  // namespace qfid::eval
