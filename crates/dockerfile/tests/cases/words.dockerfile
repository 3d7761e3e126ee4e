FROM --platform=$P img:1@sha256:x AS Build-1.x
ARG a b=1 c="x y" d=a\ b e='
USER  me:you  
WORKDIR /a b
ENV k=v k2="v 2" k3=a\ b "k 4"='$x' k5=
ENV legacy  the rest = "of" it 
LABEL "a.b"=c a=b\
 c=d
EXPOSE 80 90-91/udp	$P
VOLUME /a /b
VOLUME ["/a b", "\u002fc"]
STOPSIGNAL SIGTERM
SHELL ["/bin/bash", "-c"]
MAINTAINER a b <c>
COPY a "b c" /d\ e
