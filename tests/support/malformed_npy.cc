#include "tests/support/malformed.h"

namespace qfid::tests {

std::vector<MalformedNpy> malformed_npy() {
  const std::string one = little_endian(std::vector<std::uint16_t>{1}), magic = "\x93NUMPY";
  const auto dict = [&](const std::string& text) { return npy(text, one); };
  const auto typed = [](const std::string& descr, const std::string& shape, const std::string& data) {
    return npy(npy_dict(descr, shape), data);
  };
  const std::string no_magic = "not a .npy file: doesn't begin with \\x93NUMPY", h = "header: ";
  return {
      {"empty", "", no_magic},
      {"text", "1 2 3\n", no_magic},
      {"half the magic", "\x93NUM", no_magic},
      {"only the magic", magic, "cut short in its header"},
      {"no length", magic + std::string("\x01\x00\x10", 3), "cut short in its header"},
      {"no 4-byte length", magic + std::string("\x02\x00\x10\x00", 4), "cut short in its header"},
      {"version 0", npy("{}", "", 0), "format version 0.0, expected 1.0, 2.0 or 3.0"},
      {"version 4", npy("{}", "", 4), "format version 4.0, expected 1.0, 2.0 or 3.0"},
      {"version 1.1", magic + std::string("\x01\x01\x02\x00{}", 6), "format version 1.1, expected 1.0, 2.0 or 3.0"},
      {"header cut", magic + std::string("\x01\x00\x40\x00{'descr'", 12), "header length 64 reaches beyond the file"},
      {"header of 4 GiB", magic + std::string("\x02\x00\xff\xff\xff\xff{}", 8),
       "header length 4294967295 reaches beyond the file"},
      {"header above 64 KiB", npy(std::string(70000, ' '), "", 2), "header length 70000 is above 65536"},
      {"no dict", dict("[]"), h + "expected '{' before \"[]\""},
      {"empty dict", dict("{}"), h + "expected the keys 'descr', 'fortran_order' and 'shape'"},
      {"no shape", dict("{'descr': '<u2', 'fortran_order': False}"),
       h + "expected the keys 'descr', 'fortran_order' and 'shape'"},
      {"unknown key", dict("{'descr': '<u2', 'order': 'C'}"), h + "unknown key 'order'"},
      {"duplicate key", dict("{'descr': '<u2', 'descr': '<u2'}"), h + "duplicate key 'descr'"},
      {"double quotes", dict("{\"descr\": '<u2'}"), h + "expected ''' before \"\"descr\": '<u2'}\""},
      {"unfinished string", dict("{'descr"), h + "unfinished string"},
      {"no colon", dict("{'descr' '<u2'}"), h + "expected ':' before \"'<u2'}\""},
      {"no closing brace", dict("{'descr': '<u2', 'fortran_order': False, 'shape': (1,)"), h + "expected '}' before \"\""},
      {"text after the dict", dict("{'descr': '<u2', 'fortran_order': False, 'shape': (1,)} x"),
       h + "text after the closing brace"},
      {"order is a number", dict("{'descr': '<u2', 'fortran_order': 0}"), h + "fortran_order must be True or False"},
      {"shape is a number", dict("{'descr': '<u2', 'fortran_order': False, 'shape': 1}"), h + "expected '(' before \"1}\""},
      {"shape without a comma", typed("<u2", "(1)", one), h + "shape must be a tuple, expected ',' after its only number"},
      {"negative shape", typed("<u2", "(-1,)", one), h + "shape must hold whole numbers"},
      {"huge shape", typed("<u2", "(99999999999999999999,)", one), h + "shape must hold whole numbers"},
      {"nine dimensions", typed("<u2", "(1,1,1,1,1,1,1,1,1)", one), h + "shape has more than 8 dimensions"},
      {"Python 2 long", typed("<u2", "(1L,)", one), h + "shape must be a tuple, expected ',' after its only number"},
      {"structured", dict("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (1,)}"),
       h + "expected ''' before \"[('a', '<u2')], 'for\""},
      {"scalar", typed("<u2", "()", one), "expected one dimension (a row of tokens), found 0"},
      {"two dimensions", typed("<u2", "(1, 1)", one), "expected one dimension (a row of tokens), found 2"},
      {"Fortran order", dict("{'descr': '<u2', 'fortran_order': True, 'shape': (1,)}"),
       "fortran_order True, expected False"},
      {"big-endian", typed(">u2", "(1,)", one), "dtype '>u2', expected '<u2', '<i4' or '<i8'"},
      {"float", typed("<f4", "(1,)", std::string(4, 0)), "dtype '<f4', expected '<u2', '<i4' or '<i8'"},
      {"object", typed("|O", "(1,)", "x"), "dtype '|O', expected '<u2', '<i4' or '<i8'"},
      {"short data", typed("<u2", "(2,)", one), "shape (2,) of '<u2' doesn't fill the file: 2 bytes of data"},
      {"odd data", typed("<u2", "(1,)", one + "x"), "shape (1,) of '<u2' doesn't fill the file: 3 bytes of data"},
      {"trailing data", typed("<i4", "(1,)", std::string(8, 0)),
       "shape (1,) of '<i4' doesn't fill the file: 8 bytes of data"},
      {"shape that overflows", typed("<i8", "(2305843009213693953,)", std::string(8, 0)),
       "shape (2305843009213693953,) of '<i8' doesn't fill the file: 8 bytes of data"},
      {"negative token", typed("<i4", "(2,)", little_endian(std::vector<std::int32_t>{5, -1})),
       "token 1 is -1, expected a number from 0 to 2147483647"},
      {"token above 2^31", typed("<i8", "(1,)", little_endian(std::vector<std::int64_t>{2147483648})),
       "token 0 is 2147483648, expected a number from 0 to 2147483647"},
      {"token at the least i8", typed("<i8", "(1,)", little_endian(std::vector<std::int64_t>{INT64_MIN})),
       "token 0 is -9223372036854775808, expected a number from 0 to 2147483647"},
  };
}

}  // namespace qfid::tests
