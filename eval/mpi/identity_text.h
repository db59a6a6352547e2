// A run's identity as a letter.
#pragma once

#include "eval/mpi/letters.h"

namespace qfid::eval {

inline std::string written_identity(const RunIdentity& identity) {
  quant::ByteWriter to;
  to.number(Word::joined);
  for (const RunIdentity::Entries* entries : {&identity.entries, &identity.machine_entries}) {
    to.number<std::uint64_t>(entries->size());
    for (const auto& [name, value] : *entries) {
      to.text(name);
      to.text(value);
    }
  }
  return to.take();
}

/// Its entries alone. `from`: behind the letter's word.
inline RunIdentity read_identity(quant::ByteReader& from) {
  RunIdentity identity;
  for (RunIdentity::Entries* entries : {&identity.entries, &identity.machine_entries})
    for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
      std::string name = from.text();
      entries->emplace_back(std::move(name), from.text());
    }
  return identity;
}

}  // namespace qfid::eval
