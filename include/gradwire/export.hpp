#pragma once
/// \file Marks what the library promises; everything else has hidden visibility.
#define GRADWIRE_API __attribute__((visibility("default")))
