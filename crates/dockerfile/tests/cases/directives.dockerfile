# syntax = docker/dockerfile:1.7 --opt x
#Escape=`
# check=skip=StageNameCasing, Nope;error=false
# note=this ends the directives
# syntax=ignored
FROM a AS B
RUN dir `
  c:\
WORKDIR c:\x`
y
