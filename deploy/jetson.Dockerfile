# The node on a Jetson, on NVIDIA's images; docs/deployment.md has the commands. Not yet run.
#
# JetPack 6 (Orin: Ubuntu 22.04, CUDA 12.6, TensorRT 10.3), from the root of the repository:
#   docker build -f deploy/jetson.Dockerfile -t rgbx_seg_ros .
# JetPack 7 (Thor: Ubuntu 24.04, CUDA 13), whose image has PyTorch in it:
#   docker build -f deploy/jetson.Dockerfile -t rgbx_seg_ros \
#     --build-arg BASE=nvcr.io/nvidia/pytorch:25.08-py3 --build-arg UBUNTU=noble \
#     --build-arg ROS_DISTRO=jazzy --build-arg TORCH= .
#
# l4t-jetpack is NVIDIA's image for JetPack 6, pytorch:25.08-py3 the one that the user guide of the
# AGX Thor developer kit starts; torch for JetPack 6 is on the index of NVIDIA's Jetson AI Lab.
# ROS comes from apt, as in OSRF's images.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}
ARG ROS_DISTRO=humble
ARG UBUNTU=jammy
ARG TORCH="torch==2.8.0 --index-url https://pypi.jetson-ai-lab.io/jp6/cu126"
ENV ROS_DISTRO=${ROS_DISTRO} LANG=C.UTF-8 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
SHELL ["/bin/bash", "-c"]
WORKDIR /ws

ARG APT_SOURCE=https://github.com/ros-infrastructure/ros-apt-source/releases/download/1.2.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && curl --fail --silent --show-error --location --output /tmp/ros.deb \
        "$APT_SOURCE/ros2-apt-source_1.2.0.${UBUNTU}_all.deb" \
    && apt-get install -y /tmp/ros.deb \
    && apt-get update \
    && apt-get install -y --no-install-recommends python3-colcon-common-extensions python3-pip \
        python3-rosdep python3-venv "ros-$ROS_DISTRO-ros-base" \
    && rm -rf /tmp/ros.deb /var/lib/apt/lists/*

COPY package.xml src/rgbx_seg_ros/
RUN rosdep init \
    && apt-get update \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y --dependency-types=exec \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages .venv \
    && if [ -n "$TORCH" ]; then .venv/bin/pip install --no-cache-dir $TORCH; fi \
    && .venv/bin/pip install --no-cache-dir \
        'filelock>=3.24.3' 'safetensors>=0.4' 'rosbags>=0.11.9,<0.12' 'numpy<2'

COPY setup.py setup.cfg LICENSE src/rgbx_seg_ros/
COPY resource src/rgbx_seg_ros/resource
COPY config src/rgbx_seg_ros/config
COPY launch src/rgbx_seg_ros/launch
COPY demo src/rgbx_seg_ros/demo
COPY models src/rgbx_seg_ros/models
COPY rgbx_seg_ros src/rgbx_seg_ros/rgbx_seg_ros
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
    && .venv/bin/python -m colcon build --packages-select rgbx_seg_ros

ENTRYPOINT ["/bin/bash", "-c", "source /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "rgbx_seg_ros", "seg.launch.py"]
