#!/bin/sh
# The smallest kind of script: a head, an empty line, a body.
echo "Content-Type: text/plain"
echo "Cache-Control: no-store"
echo
date -u
