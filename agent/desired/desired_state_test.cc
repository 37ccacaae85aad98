#include "agent/desired/desired_state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/os/files.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/node/v1/node.pb.h"
#include "proto/skiff/node/v1/node.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::agent {
namespace {

namespace link = skiff::node::v1;
using ::testing::IsEmpty;
using ::testing::SizeIs;

link::ControlMessage Welcome(bool full) {
  link::ControlMessage message;
  message.mutable_welcome()->set_full(full);
  message.mutable_welcome()->add_pod_cidrs("10.244.1.0/24");
  return message;
}
link::ControlMessage Update(const std::string& kind, const std::string& name, bool deleted = false,
                            int generation = 1) {
  link::ControlMessage message;
  auto* update = message.mutable_update();
  update->set_kind(kind);
  update->set_namespace_("default");
  update->set_name(name);
  update->set_deleted(deleted);
  if (kind == "Pod") {
    k8s::core::v1::Pod pod;
    pod.mutable_metadata()->set_name(name);
    pod.mutable_metadata()->set_generation(generation);
    update->set_object(pod.SerializeAsString());
  } else {
    k8s::core::v1::ConfigMap map;
    map.mutable_metadata()->set_name(name);
    update->set_object(map.SerializeAsString());
  }
  return message;
}
link::ControlMessage Mark(int64_t revision) {
  link::ControlMessage message;
  message.mutable_mark()->set_revision(revision);
  return message;
}

class DesiredStateTest : public ::testing::Test {
 protected:
  std::unique_ptr<DesiredState> Open() { return DesiredState::Open(path).value(); }
  TempDir directory = TempDir::Make().value();
  std::string path = directory.path() + "/desired";
};

TEST_F(DesiredStateTest, ASyncIsDueForMoreThanAStatus) {
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(Update("Pod", "a"));
  state->Apply(Mark(1));
  EXPECT_FALSE(state->sync_due()) << "a whole state is written and synced at once";
  state->Apply(Update("Pod", "a"));
  state->Apply(Mark(2));
  EXPECT_FALSE(state->sync_due());
  state->Apply(Update("Pod", "a", false, 2));
  state->Apply(Mark(3));
  EXPECT_TRUE(state->sync_due());
  state->Sync();
  EXPECT_FALSE(state->sync_due());
  EXPECT_EQ(Open()->resume_revision(), 3);
}

TEST_F(DesiredStateTest, ShowsOnlyWhatIsMarkedComplete) {
  auto state = Open();
  EXPECT_FALSE(state->complete());
  EXPECT_FALSE(state->Apply(Welcome(true)).has_value());
  EXPECT_FALSE(state->Apply(Update("Pod", "a")).has_value());
  EXPECT_THAT(state->Pods(), IsEmpty());
  auto change = state->Apply(Mark(7));
  ASSERT_TRUE(change.has_value());
  EXPECT_TRUE(change->full);
  EXPECT_THAT(state->Pods(), SizeIs(1));
  EXPECT_TRUE(state->complete());
  EXPECT_EQ(state->resume_revision(), 7);
}

TEST_F(DesiredStateTest, SurvivesAndResumes) {
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(Update("Pod", "a"));
  state->Apply(Update("ConfigMap", "c"));
  state->Apply(Mark(7));
  state->Apply(Update("Pod", "b"));
  state->Apply(Update("Pod", "a", true));
  state->Apply(Mark(9));
  state->Apply(Update("Pod", "unfinished"));
  state = Open();
  EXPECT_EQ(state->resume_revision(), 9);
  ASSERT_THAT(state->Pods(), SizeIs(1));
  EXPECT_EQ(state->Pods()[0]->metadata().name(), "b");
  EXPECT_NE(state->FindConfigMap("default", "c"), nullptr);
  EXPECT_EQ(state->welcome()->pod_cidrs(0), "10.244.1.0/24");
}

TEST_F(DesiredStateTest, PoliciesAndTheirAddressesAreKept) {
  link::NetworkPolicy policy;
  policy.set_pod_selector("app=web");
  link::AddressSetPart part;
  part.add_members()->set_address("abcd");
  auto update = [](const std::string& kind, const std::string& name, const std::string& bytes) {
    link::ControlMessage message = Update(kind, name);
    message.mutable_update()->set_object(bytes);
    return message;
  };
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(update("AddressSet", "S.3", part.SerializeAsString()));
  state->Apply(update("NetworkPolicy", "p", policy.SerializeAsString()));
  state->Apply(Mark(1));
  state = Open();
  auto found = state->Find({"NetworkPolicy", "default", "p"});
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(static_cast<const link::NetworkPolicy&>(*found).pod_selector(), "app=web");
  EXPECT_NE(state->Find({"AddressSet", "default", "S.3"}), nullptr);
}

TEST_F(DesiredStateTest, KeepsTheHandlersOfRuntimeClasses) {
  ::k8s::node::v1::RuntimeClass runtime_class;
  runtime_class.set_handler("crun");
  link::ControlMessage message;
  message.mutable_update()->set_kind("RuntimeClass");
  message.mutable_update()->set_name("sandboxed");
  message.mutable_update()->set_object(runtime_class.SerializeAsString());
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(message);
  state->Apply(Mark(1));
  state = Open();
  EXPECT_EQ(state->FindRuntimeHandler("sandboxed"), "crun");
  EXPECT_EQ(state->FindRuntimeHandler("other"), std::nullopt);
}

TEST_F(DesiredStateTest, AFullStateReplacesEverything) {
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(Update("Pod", "a"));
  state->Apply(Mark(7));
  state->Apply(Welcome(true));
  state->Apply(Update("Pod", "b"));
  state->Apply(Mark(12));
  ASSERT_THAT(state->Pods(), SizeIs(1));
  EXPECT_EQ(state->Pods()[0]->metadata().name(), "b");
  EXPECT_THAT(Open()->Pods(), SizeIs(1));
}

TEST_F(DesiredStateTest, ABrokenLinkDropsWhatWasNotComplete) {
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(Update("Pod", "a"));
  state->Apply(Mark(7));
  state->Apply(Update("Pod", "half"));
  state->Apply(Welcome(false));
  state->Apply(Update("Pod", "b"));
  state->Apply(Mark(9));
  EXPECT_THAT(state->Pods(), SizeIs(2));
  EXPECT_EQ(state->Find({"Pod", "default", "half"}), nullptr);
}

// Whatever part of the file a crash leaves, the state is that of some earlier mark.
TEST_F(DesiredStateTest, EveryTornEndIsReadable) {
  {
    auto state = Open();
    state->Apply(Welcome(true));
    state->Apply(Update("Pod", "a"));
    state->Apply(Mark(1));
    for (int i = 2; i < 6; ++i) {
      state->Apply(Update("Pod", "p" + std::to_string(i)));
      state->Apply(Mark(i));
    }
  }
  std::string whole = ReadFile(path).value();
  for (size_t length = 0; length <= whole.size(); ++length) {
    ASSERT_TRUE(WriteFileAtomic(path, whole.substr(0, length), Durability::kNone).ok());
    auto state = Open();
    EXPECT_EQ(state->Pods().size(), static_cast<size_t>(state->resume_revision()));
    // And it goes on from there.
    state->Apply(Welcome(true));
    state->Apply(Update("Pod", "new"));
    state->Apply(Mark(100));
    ASSERT_EQ(Open()->resume_revision(), 100);
  }
}

TEST_F(DesiredStateTest, ADamagedFileIsPutAside) {
  ASSERT_TRUE(WriteFileAtomic(path, "something else").ok());
  auto state = Open();
  EXPECT_FALSE(state->complete());
  EXPECT_EQ(ReadFile(path + ".damaged").value(), "something else");
}

TEST_F(DesiredStateTest, StaysSmallUnderChurn) {
  auto state = Open();
  state->Apply(Welcome(true));
  state->Apply(Mark(1));
  for (int i = 2; i < 30'000; ++i) {
    state->Apply(Update("Pod", "a", false, 1));
    state->Apply(Mark(i));
  }
  EXPECT_LT(ReadFile(path).value().size(), size_t{5} << 20);
}

}  // namespace
}  // namespace skiff::agent
