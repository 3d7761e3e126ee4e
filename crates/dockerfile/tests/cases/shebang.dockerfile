#!/usr/bin/env docker build
# syntax=a b
# check=error=true
FROM a
MAINTAINER x
