// What a run is made of as bytes: in its journal, and in a letter between ranks.
#pragma once

#include <string>
#include <utility>

#include "eval/experiment/unit_store.h"
#include "quant/core/byte_stream.h"

namespace qfid::eval {

/// Entries and machine entries, and nothing else of an identity.
inline void write_entries(quant::ByteWriter& to, const RunIdentity& identity) {
  for (const RunIdentity::Entries* entries : {&identity.entries, &identity.machine_entries}) {
    to.number<std::uint64_t>(entries->size());
    for (const auto& [name, value] : *entries) {
      to.text(name);
      to.text(value);
    }
  }
}

inline void read_entries(quant::ByteReader& from, RunIdentity& identity) {
  for (RunIdentity::Entries* entries : {&identity.entries, &identity.machine_entries})
    for (auto left = from.number<std::uint64_t>(); left > 0; --left) {
      std::string name = from.text();
      entries->emplace_back(std::move(name), from.text());
    }
}

}  // namespace qfid::eval
