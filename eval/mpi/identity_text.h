// A run's identity as a letter.
#pragma once

#include "eval/experiment/identity_entries.h"
#include "eval/mpi/letters.h"

namespace qfid::eval {

inline std::string written_identity(const RunIdentity& identity) {
  quant::ByteWriter to;
  to.number(Word::joined);
  write_entries(to, identity);
  return to.take();
}

/// Its entries alone. `from`: behind the letter's word.
inline RunIdentity read_identity(quant::ByteReader& from) {
  RunIdentity identity;
  read_entries(from, identity);
  return identity;
}

}  // namespace qfid::eval
