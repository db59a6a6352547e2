// What makes two processes' work parts of one run: configuration, data, models and baselines of gates by their content, the
// program, and the machine as far as it decides about bits.
#pragma once

#include "eval/experiment/session.h"
#include "eval/experiment/spec.h"
#include "eval/experiment/unit_store.h"

namespace qfid::eval {

/// `provenance`: the run's, with tokens_hash; `model_hashes`: content_hash() of every model's checkpoint, by name.
RunIdentity identity_of(const Spec& spec, const Provenance& provenance,
                        const std::map<std::string, std::string>& model_hashes, Backends& backends);

/// Of a token file's bytes; of masked-LM data, of both files' numbers; of text, of the tokens that came of it and where
/// its documents begin.
std::string corpus_hash(const DataSpec& data, const Corpus& corpus);

/// Of a run before its models are looked at.
Provenance provenance_of(const Spec& spec, const Corpus& corpus, Backends& backends);

/// What is the machine's and the build's in a provenance.
void take_machine(Provenance& into, const Provenance& from);

}  // namespace qfid::eval
