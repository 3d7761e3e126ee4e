# dropped, because a blank comment follows
#
# VERSION the version to build
# more text
ARG VERSION=1
# build compiles

# everything
FROM a AS build
