// JUnit XML, as CI systems read it: what blocks is a failure, what is only reported is skipped with its reason.
#include <pugixml.hpp>
#include <sstream>

#include "eval/report/report.h"

namespace qfid::eval {

namespace {

/// XML 1.0 has no control characters but tab and line ends, not even escaped.
std::string xml_text(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n') c = '?';
  return text;
}

}  // namespace

std::string junit_xml(const std::vector<GateRecord>& gates, const std::string& name) {
  pugi::xml_document document;
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  declaration.append_attribute("version") = "1.0";
  declaration.append_attribute("encoding") = "UTF-8";
  pugi::xml_node suite = document.append_child("testsuites").append_child("testsuite");
  suite.append_attribute("name") = xml_text(name).c_str();
  int failures = 0, skipped = 0;
  pugi::xml_attribute tests = suite.append_attribute("tests"), failed = suite.append_attribute("failures"),
                      left_out = suite.append_attribute("skipped");
  for (const GateRecord& gate : gates) {
    pugi::xml_node test = suite.append_child("testcase");
    test.append_attribute("classname") = (gate.model + "." + gate.target).c_str();
    test.append_attribute("name") = gate.name.c_str();
    const std::string words = xml_text(gate.words);
    if (gate.blocks()) {
      ++failures;
      pugi::xml_node failure = test.append_child("failure");
      failure.append_attribute("type") = to_string(gate.verdict);
      failure.append_attribute("message") = words.c_str();
    } else if (gate.verdict != GateVerdict::pass) {
      ++skipped;
      test.append_child("skipped").append_attribute("message") =
          (std::string(to_string(gate.verdict)) + ": " + words).c_str();
    } else {
      test.append_child("system-out").text() = words.c_str();
    }
  }
  tests = static_cast<int>(gates.size());
  failed = failures;
  left_out = skipped;
  std::ostringstream text;
  document.save(text, " ");
  return text.str();
}

}  // namespace qfid::eval
