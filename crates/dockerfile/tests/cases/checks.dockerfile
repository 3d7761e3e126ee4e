# syntax=docker/dockerfile:1
# the base image
ARG BASE=a

# base is what all are built from
FROM $BASE as Base
# check=skip=JSONArgsRecommended,MaintainerDeprecated
CMD a b
CMD a "b"
workdir sub
WORKDIR sub
Env a b c
LABEL d e
MAINTAINER me
EXPOSE 80/TCP 1.2.3.4:80:81/udp $X/TCP
ARG API_KEY TOKEN_FILE MYTOKEN
ENV DB_PASSWORD=x PUBLIC_KEY=y
FROM base AS scratch
SHELL ["/bin/bash", "-c"]
CMD ok
WORKDIR fine
from a as base
RUN a \

 b
ENTRYPOINT ['a']
FROM scratch AS c
WORKDIR $X
ENTRYPOINT from a shell
# check=skip=all
MAINTAINER nobody
