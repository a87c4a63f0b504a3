# gradwire_embed_report(OUT): page.html with style.css, script.js and their hashes in it, as a source file. The hashes are
# what the page's Content-Security-Policy lets run.

# base64 of a SHA-256 in hexadecimal digits.
function(gradwire_base64_of_sha256 out hex)
  set(letters ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  set(text "")
  string(APPEND hex 00)  # 33 bytes: a whole number of threes
  foreach(begin RANGE 0 65 6)
    string(SUBSTRING ${hex} ${begin} 6 three_bytes)
    foreach(shift 18 12 6 0)
      math(EXPR index "(0x${three_bytes} >> ${shift}) & 63")
      string(SUBSTRING ${letters} ${index} 1 letter)
      string(APPEND text ${letter})
    endforeach()
  endforeach()
  string(SUBSTRING ${text} 0 43 text)
  set(${out} ${text}= PARENT_SCOPE)
endfunction()

function(gradwire_embed_report out)
  set(folder ${CMAKE_CURRENT_SOURCE_DIR}/report)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${folder}/page.html ${folder}/style.css ${folder}/script.js)
  file(READ ${folder}/style.css STYLE)
  file(READ ${folder}/script.js SCRIPT)
  foreach(part STYLE SCRIPT)
    string(SHA256 hex "${${part}}")
    gradwire_base64_of_sha256(${part}_HASH ${hex})
  endforeach()
  file(READ ${folder}/page.html page)
  string(CONFIGURE "${page}" REPORT_PAGE @ONLY)
  set(${out} ${CMAKE_CURRENT_BINARY_DIR}/report_template.cpp PARENT_SCOPE)
  configure_file(${folder}/template.cpp.in ${CMAKE_CURRENT_BINARY_DIR}/report_template.cpp @ONLY)
endfunction()
