FROM --platfrom=x a
FROM a
COPY --form=b x y
COPY --from=$STAGE x y
COPY --link=maybe x y
COPY --link= x y
COPY --chown a x y
COPY --chown=1 --chown=2 x y
CMD --foo bar
ENV --xyzzy=1 a=b
RUN --mount=from=a$b,target=/x c
RUN --mount=\"a,b x
RUN --network=hots x
RUN --network= x
RUN --security=none x
RUN --device=a,b x
RUN --device=required x
RUN --device=a,required=x x
ADD --checksum=sha256:1 a b /c
HEALTHCHECK --retires=3 CMD x
